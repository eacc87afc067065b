"""Input-convex networks: potentials whose gradients are monotone maps.

  z_1 = s(W_1 x + b_1),   z_{k+1} = s(U_k z_k + W_{k+1} x + b_{k+1})
  f(x) = <u, z_K> + <w, x> + |F x|^2 / 2 + strength |x|^2 / 2

s is convex and increasing, and U and u are not negative, so f is convex, as a
sum of convex functions of affine ones. s(h) = log(1 + exp(sharpness h)) /
sharpness is smooth and close to relu(h), so that f has a Hessian, at least
strength I, and can still bend sharply. The parametrisation does not enforce
U, u >= 0: project with `nonnegative` after each step (training.Turn.project),
or add `negativity` to the loss.

References: Amos et al. 2017, arXiv:1609.07152, eq. 2; Makkuva et al. 2020,
arXiv:1908.10962 (the penalty); Korotin et al. 2021, arXiv:1909.13082, appendix
B (quadratic terms).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


class ICNN(nn.Module):
  """A convex function of one example, [*D] to [].

  Attributes:
    features: width of each hidden layer.
    sharpness: sharpness of the softplus s, positive. At 1 it bends over several
      units of its input, too slowly for a potential with creases.
    strength: strong convexity: f - strength |x|^2 / 2 is convex; at least 0.
  """

  features: tuple[int, ...] = (32, 32, 32, 32)
  sharpness: float = 4.0
  strength: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "*D"]) -> Float[Array, ""]:
    """f(x), convex if the parameters are nonnegative (see `nonnegative`).

    Raises:
      ValueError: features are empty or below 1, or sharpness or strength is out
        of range.
    """
    self._check()
    x = x.ravel()
    smooth = lambda h: nn.softplus(self.sharpness * h) / self.sharpness
    z = smooth(nn.Dense(self.features[0], name="affine_0")(x))
    for i, width in enumerate(self.features[1:], 1):
      h = nn.Dense(width, name=f"affine_{i}")(x)
      z = smooth(h + _Convex(width, name=f"convex_{i}")(z))
    f = _Convex(1, name="convex_out")(z)
    f = f + nn.Dense(1, use_bias=False, name="affine_out")(x)
    factor = self.param(
      "factor", lambda _, size: jnp.eye(size, dtype=jnp.float32), x.size
    )
    square = jnp.sum((factor @ x) ** 2) + self.strength * jnp.sum(x**2)
    return f[0] + square / 2

  def _check(self):
    if min(self.features, default=0) < 1:
      raise ValueError(f"features: expected widths >= 1, got {self.features}")
    if not self.sharpness > 0:
      raise ValueError(
        f"sharpness: expected a positive number, got {self.sharpness}"
      )
    if not self.strength >= 0:
      raise ValueError(f"strength: expected at least 0, got {self.strength}")


class _Convex(nn.Module):
  """z -> U z, initialised with U of mean 1 / len(z), about an average of z."""

  width: int

  @nn.compact
  def __call__(self, z):
    start = nn.initializers.uniform(2 / z.size)
    return z @ self.param(
      "nonnegative", start, (z.size, self.width), jnp.float32
    )


def nonnegative(params: PyTree) -> PyTree:
  """The parameters with relu(U) for every U: the nearest with f convex.

  Raises:
    ValueError: params contain no U.
  """
  _require(params)
  keep = lambda path, p: nn.relu(p) if _is_convex(path) else p
  return jax.tree_util.tree_map_with_path(keep, params)


def negativity(params: PyTree) -> Float[Array, ""]:
  """sum |relu(-U)|^2 over every U: 0 if and only if all of them are >= 0.

  Raises:
    ValueError: params contain no U.

  Reference: Makkuva et al. 2020, arXiv:1908.10962, eq. 9.
  """
  return jnp.stack([jnp.sum(nn.relu(-p) ** 2) for p in _require(params)]).sum()


def _require(params):
  leaves = jax.tree_util.tree_leaves_with_path(params)
  found = [p for path, p in leaves if _is_convex(path)]
  if not found:
    raise ValueError("params: expected parameters of an ICNN, got none named U")
  return found


def _is_convex(path):
  return getattr(path[-1], "key", None) == "nonnegative"
