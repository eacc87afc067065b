"""Score matching: four losses with one minimiser, s = grad log p.

  explicit       mean_i (s - grad log p)_i^2              p's score is known
  implicit       mean_i [s_i^2 + 2 d_i s_i]               D products with ds/dx
  sliced         mean_i [(u . s)^2 + 2 u . (ds/dx) u]     one product
  sliced_vr      mean_i [s_i^2 + 2 u . (ds/dx) u]         one product
  denoising      losses/denoising.py with predictions.score    none

(for sliced ones the mean is the sum over 1 / D, and E u u^T = I). Over x ~ p
each differs from explicit by a constant, denoising with p the law of x_t, so
that their gradients agree in expectation. All take one example and score_fn,
[*D] -> [*D], with parameters bound. At a level of noise, call them on x_t with
lambda x: score_fn(x, t); the weight sigma(t)^2 makes every level count alike.

An energy network f: [*D] -> [] has the score -grad f (`from_energy`), which
these losses train through its second and third derivatives.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import traces


def explicit(
  score_fn: Callable,
  x: Float[Array, "..."],
  score: Float[Array, "..."],
) -> Float[Array, ""]:
  """Squared error of the score at one point, where the true one is known.

    mean_i (s(x) - score)_i^2

  Args:
    score_fn: s, [*D] -> [*D], parameters bound.
    x: a point, [*D], of the law that the error is averaged over.
    score: grad log p(x), [*D].

  Returns:
    The loss, [].

  Raises:
    ValueError: score or what score_fn returns has another shape than x.

  Reference: Hyvarinen 2005, JMLR 6, eq. 2.
  """
  value = score_fn(x)
  for name, array in (("score_fn", value), ("score", score)):
    _check_shape(name, array, x)
  return jnp.mean((value - score) ** 2)


def implicit(score_fn: Callable, x: Float[Array, "..."]) -> Float[Array, ""]:
  """Hyvarinen's objective at one data point, its divergence exact.

    mean_i [s_i(x)^2 + 2 d s_i / d x_i]

  Args:
    score_fn: s, [*D] -> [*D], parameters bound.
    x: a data point, [*D].

  Returns:
    The loss, []; may be negative: the mean over data is the explicit loss
    minus mean_i E (d_i log p)^2.

  Raises:
    ValueError: score_fn returns another shape than x.

  Reference: Hyvarinen 2005, JMLR 6, eq. 4.
  """
  exact = traces.exact()
  score, trace = _score_and_trace(exact, score_fn, x, exact.draw(None, x))
  return (jnp.sum(score**2) + 2 * trace) / x.size


def sliced(
  score_fn: Callable,
  x: Float[Array, "..."],
  direction: Float[Array, "..."],
) -> Float[Array, ""]:
  """Sliced score matching at one data point, along one direction.

    [(u . s(x))^2 + 2 u . (ds/dx) u] / D

  Args:
    score_fn: s, [*D] -> [*D], parameters bound.
    x: a data point, [*D].
    direction: u, [*D], with E u u^T = I: a normal draw, or random signs.

  Returns:
    The loss, []; its mean over u is `implicit`.

  Raises:
    ValueError: direction or what score_fn returns has another shape than x.

  Reference: Song et al. 2019, arXiv:1905.07088, eq. 7.
  """
  score, trace = _along(score_fn, x, direction)
  return (jnp.vdot(direction, score) ** 2 + 2 * trace) / x.size


def sliced_vr(
  score_fn: Callable,
  x: Float[Array, "..."],
  direction: Float[Array, "..."],
) -> Float[Array, ""]:
  """`sliced` with the mean of its first term over directions: less variance.

    [|s(x)|^2 + 2 u . (ds/dx) u] / D

  Args, Returns and Raises: as in `sliced`.

  Reference: Song et al. 2019, arXiv:1905.07088, eq. 8.
  """
  score, trace = _along(score_fn, x, direction)
  return (jnp.sum(score**2) + 2 * trace) / x.size


def from_energy(energy_fn: Callable) -> Callable:
  """The score function of p proportional to exp(-energy): -grad energy.

  Args:
    energy_fn: [*D] -> [], parameters bound. More arguments, a time or a label,
      are passed through.
  """
  gradient = jax.grad(energy_fn)
  return lambda x, *more: -gradient(x, *more)


def _along(score_fn, x, direction):
  _check_shape("direction", direction, x)
  probes = direction.reshape(1, -1)
  return _score_and_trace(traces.hutchinson(1), score_fn, x, probes)


def _score_and_trace(trace, score_fn, x, probes):
  """s(x), and an estimate of div s(x)."""
  _check_shape("score_fn", jax.eval_shape(score_fn, x), x)
  score, estimates = trace.estimate(score_fn, x, probes)
  return score, estimates[0]


def _check_shape(name, array, x):
  if array.shape != x.shape:
    raise ValueError(
      f"{name}: expected shape {list(x.shape)}, x's, got {list(array.shape)}"
    )
