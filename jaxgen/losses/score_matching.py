"""Score matching: four losses with one minimiser, s = grad log p.

  explicit       mean_i (s - grad log p)_i^2              p's score is known
  implicit       mean_i [s_i^2 + 2 d_i s_i]               D products with ds/dx
  sliced         mean_i [(u . s)^2 + 2 u . (ds/dx) u]     one product
  sliced_vr      mean_i [s_i^2 + 2 u . (ds/dx) u]         one product
  denoising      losses/denoising.py with predictions.score    none

(In the sliced losses the mean is the sum divided by D, and E u u^T = I.) In
expectation over x ~ p each differs from explicit by a constant, where p is the
distribution of x_t for denoising, so all have the same expected gradient. All
take one example and score_fn, [*D] -> [*D], with parameters bound. At a noise
level, call them on x_t with lambda x: score_fn(x, t); the weight sigma(t)^2
balances the levels.

An energy network f: [*D] -> [] has the score -grad f (`from_energy`). These
losses train it through its second and third derivatives.
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
  """Squared error of the score at one point, where the true score is known.

    mean_i (s(x) - score)_i^2

  Args:
    score_fn: s, [*D] -> [*D], parameters bound.
    x: a point, [*D], sampled from the distribution of interest.
    score: grad log p(x), [*D].

  Returns:
    The loss, [].

  Raises:
    ValueError: score, or the output of score_fn, differs from x in shape.

  Reference: Hyvarinen 2005, JMLR 6, eq. 2.
  """
  value = score_fn(x)
  for name, array in (("score_fn", value), ("score", score)):
    _check_shape(name, array, x)
  return jnp.mean((value - score) ** 2)


def implicit(score_fn: Callable, x: Float[Array, "..."]) -> Float[Array, ""]:
  """Hyvarinen's objective at one data point, with the exact divergence.

    mean_i [s_i(x)^2 + 2 d s_i / d x_i]

  Args:
    score_fn: s, [*D] -> [*D], parameters bound.
    x: a data point, [*D].

  Returns:
    The loss, []. It may be negative: its mean over data is the explicit loss
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
    direction: u, [*D], with E u u^T = I: standard normal, or random signs.

  Returns:
    The loss, []; its mean over u is `implicit`.

  Raises:
    ValueError: direction, or the output of score_fn, differs from x in shape.

  Reference: Song et al. 2019, arXiv:1905.07088, eq. 7.
  """
  score, trace = _along(score_fn, x, direction)
  return (jnp.vdot(direction, score) ** 2 + 2 * trace) / x.size


def sliced_vr(
  score_fn: Callable,
  x: Float[Array, "..."],
  direction: Float[Array, "..."],
) -> Float[Array, ""]:
  """`sliced` with its first term averaged over directions: lower variance.

    [|s(x)|^2 + 2 u . (ds/dx) u] / D

  Args, Returns and Raises: as in `sliced`.

  Reference: Song et al. 2019, arXiv:1905.07088, eq. 8.
  """
  score, trace = _along(score_fn, x, direction)
  return (jnp.sum(score**2) + 2 * trace) / x.size


def from_energy(energy_fn: Callable) -> Callable:
  """The score function of p proportional to exp(-energy): -grad energy.

  Args:
    energy_fn: ([*D], ...) -> [], parameters bound. Further arguments, such as a
      time or a label, are passed through.
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
