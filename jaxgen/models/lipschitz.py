"""Critics that are 1-Lipschitz by construction, for any parameters.

  |f(x) - f(y)| <= |x - y|   in the Euclidean norm of an example

Their dual value is a lower bound of W1, without a penalty to tune.

  Network   dense layers of spectral norm at most 1, with 1-Lipschitz
            activations; kernels are divided by their norm, or semi-orthogonal
            (for GroupSort, which preserves the gradient's norm)
  cones     a learned mix of a soft maximum of falling cones and a soft minimum
            of rising ones, dense in the 1-Lipschitz functions on a compact set
            (McShane)

Reference: Anil et al. 2019, arXiv:1811.05381 (orthogonal layers, GroupSort);
Miyato et al. 2018, arXiv:1802.05957 (spectral normalisation); McShane 1934,
Bulletin of the AMS 40.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from jaxtyping import ArrayLike as Numeric

_SQUARINGS = 8  # squarings of the Gram matrix: its 256th power
_ITERATIONS = 12  # iterations of Bjorck's method
_FEW = 8  # dimensions up to which distances are sums of squared differences


def _product(a, b):
  """a @ b at full precision; reduced-precision products would change slopes."""
  return jnp.matmul(a, b, precision="highest")


def spectral_norm(kernel: Float[Array, "N M"]) -> Float[Array, ""]:
  """An upper bound of the largest singular value, from the Gram matrix.

    |(W^T W)^m|_F^(1/2m),   m = 256, by eight squarings

  Unlike power iteration it needs no vector from step to step. Up to rounding it
  is never below the norm, and above it by a factor of at most r^(1/4m), where r
  singular values are about as large: .5 % for 128. Its gradient is that of
  |W v|, with v the largest column of the power, and 0 at W = 0.

  Args:
    kernel: W, [N, M].
  """
  narrow = kernel if kernel.shape[0] >= kernel.shape[1] else kernel.T
  powers = jax.lax.stop_gradient(_product(narrow.T, narrow))
  log_scale = jnp.zeros((), powers.dtype)
  for _ in range(_SQUARINGS):
    size = jnp.maximum(jnp.linalg.norm(powers), 1e-30)
    powers = _product(powers / size, powers / size)
    log_scale = 2 * (log_scale + jnp.log(size))
  log_scale = log_scale + jnp.log(jnp.maximum(jnp.linalg.norm(powers), 1e-30))
  bound = jnp.exp(log_scale / 2 ** (_SQUARINGS + 1))
  lengths = jnp.linalg.norm(powers, axis=0)
  top = powers[:, jnp.argmax(lengths)]
  top = top / jnp.maximum(jnp.linalg.norm(top), 1e-30)
  norm = _length(_product(narrow, top))
  return norm * (bound / jnp.maximum(jax.lax.stop_gradient(norm), 1e-30))


def _length(x):
  """|x|, with gradient 0 at 0."""
  square = jnp.sum(x**2)
  positive = square > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def normalised(kernel: Float[Array, "N M"]) -> Float[Array, "N M"]:
  """The kernel, not 0, divided by its spectral norm."""
  return kernel / spectral_norm(kernel)


def orthogonal(kernel: Float[Array, "N M"]) -> Float[Array, "N M"]:
  """The nearest semi-orthogonal matrix, with all singular values 1.

    W <- W (3 I - W^T W) / 2,   starting from the kernel over its spectral norm

  Bjorck's iteration, which needs only products. Singular values increase to 1
  and never exceed it, so that the slope is bounded even before small ones have
  converged: one of a tenth of the largest is 1 to within 1e-6.

  Args:
    kernel: [N, M], not 0.

  Reference: Bjorck and Bowie 1971, SIAM J. Numer. Anal. 8; Anil et al. 2019,
  arXiv:1811.05381, section 4.2.
  """
  tall = kernel.shape[0] >= kernel.shape[1]
  w = normalised(kernel if tall else kernel.T)
  for _ in range(_ITERATIONS):
    w = 1.5 * w - 0.5 * _product(w, _product(w.T, w))
  return w if tall else w.T


def max_min(h: Float[Array, "N"]) -> Float[Array, "N"]:
  """GroupSort in groups of two: the maxima and minima of pairs, with slope 1.

  Raises:
    ValueError: the number of units is odd.

  Reference: Anil et al. 2019, arXiv:1811.05381, eq. 2.
  """
  if len(h) % 2:
    raise ValueError(f"max_min: expected an even number of units, got {len(h)}")
  first, second = jnp.split(h, 2)
  return jnp.concatenate(
    [jnp.maximum(first, second), jnp.minimum(first, second)]
  )


class Network(nn.Module):
  """A 1-Lipschitz network of one example: [*D] -> [], or -> [F].

  Attributes:
    features: width of each hidden layer.
    constrain: kernel [N, M] -> kernel of spectral norm at most 1: orthogonal or
      normalised.
    activation: [N] -> [N], 1-Lipschitz.
    num_outputs: F, for features that feed another 1-Lipschitz function; None
      for a scalar.
  """

  features: tuple[int, ...] = (128, 128)
  constrain: Callable = orthogonal
  activation: Callable = max_min
  num_outputs: int | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "*D"]) -> Float[Array, "..."]:
    """f at one example.

    Args:
      x: the example, [*D].

    Returns:
      f(x), [] or [F].

    Raises:
      ValueError: a width is below 1.
    """
    widths = (*self.features, self.num_outputs or 1)
    if min(widths) < 1:
      raise ValueError(f"features: expected widths >= 1, got {widths}")
    h = x.ravel()
    init = nn.initializers
    for i, width in enumerate(widths):
      kernel = self.param(
        f"kernel_{i}", init.orthogonal(), (len(h), width), jnp.float32
      )
      bias = self.param(f"bias_{i}", init.zeros, (width,), jnp.float32)
      h = _product(h, self.constrain(kernel)) + bias
      if i < len(self.features):
        h = self.activation(h)
    return h[0] if self.num_outputs is None else h


class Cones(NamedTuple):
  """Parameters of `cones`; a pytree.

  Attributes:
    high: tips of the falling cones, [K, D].
    high_offset: their offsets, [K].
    low: tips of the rising cones, [L, D].
    low_offset: their offsets, [L].
    mix: logit of the falling cones' weight, [].
  """

  high: Array
  high_offset: Array
  low: Array
  low_offset: Array
  mix: Array


def init_cones(high: Float[Array, "..."], low: Float[Array, "..."]) -> Cones:
  """Cones with equal weights, with their tips at these points and offsets 0.

  Args:
    high: points at which the critic should be high, [K, D]: samples of the
      data, possibly shrunk toward their mean.
    low: points at which it should be low, likewise, [L, D].

  Raises:
    ValueError: the points differ in dimension, or there are none.
  """
  flat = high.ndim == low.ndim == 2
  if not flat or high.shape[1] != low.shape[1] or not high.size or not low.size:
    raise ValueError(
      "low: expected points [L, D] of the same dimension as high, at least one"
      f" of each, got {list(low.shape)} and high {list(high.shape)}"
    )
  zeros = lambda x: jnp.zeros(len(x), x.dtype)
  return Cones(high, zeros(high), low, zeros(low), jnp.zeros((), high.dtype))


def cones(
  params: Cones, x: Float[Array, "D"], temperature: Float[Numeric, ""]
) -> Float[Array, ""]:
  """The mix of cones at one point.

    w T log sum_k exp(-(|x - a_k| + b_k) / T)
      - (1 - w) T log sum_l exp(-(|x - c_l| + d_l) / T),   w = sigmoid(mix)

  Its gradient is an average of vectors of length at most 1, at any temperature.
  Above 8 dimensions, distances come from one matrix product under vmap,
  |x|^2 - 2 <x, a> + |a|^2, which is accurate to 1e-3 of their length; so tips
  are rounded to sqrt(|x - a|^2 + tip^2), tip = 1e-3 sqrt(|x|^2 + |a|^2).

  Args:
    params: parameters, as from init_cones.
    x: the point, [D].
    temperature: T, positive; decreasing in training, e.g. from .3 to .03.

  Returns:
    f(x), [].
  """

  def soft(tips, offsets):
    rises = (jnp.sqrt(_squares(tips, x) + 1e-20) + offsets) / temperature
    return temperature * jax.nn.logsumexp(-rises)

  share = jax.nn.sigmoid(params.mix)
  falling = soft(params.high, params.high_offset)
  rising = -soft(params.low, params.low_offset)
  return share * falling + (1 - share) * rising


def _squares(tips, x):
  """|x - tip|^2 for every tip, [K], with the rounding described in `cones`."""
  if len(x) <= _FEW:
    return jnp.sum((tips - x[None]) ** 2, axis=1)
  squares = jnp.sum(tips**2, axis=1) + jnp.sum(x**2)
  return jnp.maximum(squares - 2 * _product(tips, x), 0.0) + 1e-6 * squares
