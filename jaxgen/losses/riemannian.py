"""Flow matching on a manifold: geodesics between data and source.

  x_t = exp(data, t log(data, source)),   velocity = dx_t / dt

t = 0 is data and t = 1 the source, as in losses.flow_matching. The velocity is
a tangent vector at x_t, and so is what a network should give: project it by
manifold.tangent.

Reference: Chen and Lipman 2023, arXiv:2302.03660.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import manifolds


def problem(
  data: Float[Array, "..."],
  source: Float[Array, "..."],
  t: ArrayLike,
  *,
  manifold: manifolds.Manifold,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
  """The regression problem of one pair: (x_t, velocity).

  Args:
    data: a point of the manifold.
    source: the point that it is paired with, not at the data's cut locus.
    t: time, [], from 0 to 1.
    manifold: one of jaxgen.manifolds.

  Raises:
    ValueError: data and source differ in shape, or t is not one time.
  """
  if data.shape != source.shape:
    raise ValueError(f"source: expected shape {data.shape}, got {source.shape}")
  if jnp.shape(t) != ():
    raise ValueError(f"t: expected shape (), one example, got {jnp.shape(t)}")
  t = jnp.asarray(t, data.dtype)
  along = lambda t: manifold.geodesic(data, source, t)
  return jax.jvp(along, (t,), (jnp.ones_like(t),))


def flow_matching(
  velocity_fn: Callable,
  data: Float[Array, "..."],
  source: Float[Array, "..."],
  t: ArrayLike,
  *,
  manifold: manifolds.Manifold,
) -> Float[Array, ""]:
  """mean_i (P v(x_t, t) - velocity)_i^2 for one pair, P the tangent projection.

  Args:
    velocity_fn: v, (point, []) -> ambient vector, parameters bound.
    data, source, t, manifold: as in `problem`.

  Raises:
    ValueError: as in `problem`, or velocity_fn returns another shape.
  """
  x_t, velocity = problem(data, source, t, manifold=manifold)
  value = velocity_fn(x_t, t)
  if jnp.shape(value) != velocity.shape:
    raise ValueError(
      f"velocity_fn: expected output shape {velocity.shape}, got"
      f" {jnp.shape(value)}"
    )
  return jnp.mean((manifold.tangent(x_t, value) - velocity) ** 2)
