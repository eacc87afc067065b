"""Transport maps, learned by games and by regression.

A max-min game for the cost c has two players: a potential f, high on the target
distribution, and a map T that moves x to the target:

  OT = max_f min_T  E[c(x, T(x)) - f(T(x))] + E f(y)

  map's loss         mover(f, T, x, cost=c)
  potential's loss   wasserstein.dual(f, y, T(x))

It is a Wasserstein GAN whose generator also pays the transport cost. Other
choices of cost and potential give other methods:

  c = distance                        MM, MM-R of the W1 benchmark
  c = square / 2                      max-min, neural optimal transport
  c = inner, f = -phi, phi and T =    Makkuva's minimax (phi, psi convex:
  grad psi                            models.icnn)

References: Korotin et al. 2023, arXiv:2201.12220 (neural optimal transport);
Rout et al. 2022, arXiv:2110.02999; Fan et al. 2021, arXiv:2106.03812; Makkuva
et al. 2020, arXiv:1908.10962.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import costs
from jaxgen.losses import wasserstein

_SIZES = (1.0, 0.5, 0.2, 0.05, 0.0)  # tried step lengths of Newton's method


def mover(
  potential_fn: Callable,
  transport_fn: Callable,
  x: Float[Array, "*D"],
  *,
  cost: costs.Cost,
) -> Float[Array, ""]:
  """The map's loss for one example: c(x, T(x)) - f(T(x)).

  For an optimal map its value is the c-transform of f at x.

  Args:
    potential_fn: f, [*D] -> [], high on the target distribution.
    transport_fn: T, [*D] -> [*D].
    x: an example of the source distribution, [*D].
    cost: c, ([*D], [*D]) -> [].

  Returns:
    The loss, []. Reduce over a batch with vmap and mean.

  Raises:
    ValueError: T changes the shape, or f(T(x)) is not a scalar.
  """
  moved = _moved(transport_fn, x)
  return cost(x, moved) - costs.value(potential_fn, moved)


def weak_mover(
  potential_fn: Callable,
  transport_fn: Callable,
  x: Float[Array, "*D"],
  noise: Float[Array, "K ..."],
  *,
  cost: costs.Cost,
  diversity: float,
) -> Float[Array, ""]:
  """The loss of a stochastic map for one example, with a weak cost.

    mean_k [c(x, T(x, z_k)) - f(T(x, z_k))] - diversity Var_k T(x, z_k)

  Var is unbiased and summed over the elements. With c = square / 2 it is the
  gamma-weak quadratic cost for diversity = gamma / 2.

  Args:
    potential_fn: f, [*D] -> [].
    transport_fn: T, ([*D], [*Z]) -> [*D].
    x: an example of the source distribution, [*D].
    noise: z, at least two samples, [K, *Z].
    cost: c, ([*D], [*D]) -> [].
    diversity: weight of the variance, at least 0; 0 gives the strong cost.

  Raises:
    ValueError: noise has fewer than two samples, diversity is negative, or as
      in `mover`.

  Reference: Korotin et al. 2023, arXiv:2201.12220, eq. 6 and 15.
  """
  if len(noise) < 2:
    raise ValueError(f"noise: expected at least 2 samples, got {len(noise)}")
  if not diversity >= 0:
    raise ValueError(f"diversity: expected at least 0, got {diversity}")
  moved = jax.vmap(lambda z: _moved(lambda x: transport_fn(x, z), x))(noise)
  one = lambda to: cost(x, to) - costs.value(potential_fn, to)
  variance = jnp.sum(jnp.var(moved, axis=0, ddof=1))
  return jnp.mean(jax.vmap(one)(moved)) - diversity * variance


def cycle(
  forth_fn: Callable, back_fn: Callable, y: Float[Array, "*D"]
) -> Float[Array, ""]:
  """|T(S(y)) - y|^2, the cycle-consistency error at one example.

  Args:
    forth_fn: T, [*D] -> [*D].
    back_fn: S, [*D] -> [*D].
    y: an example of the target distribution, [*D].

  Raises:
    ValueError: a map changes the shape.
  """
  return costs.square(_moved(forth_fn, _moved(back_fn, y)), y)


def non_minimax(
  potential_fn: Callable,
  conjugate_fn: Callable,
  x: Float[Array, "..."],
  y: Float[Array, "..."],
  *,
  cycle_weight: float,
) -> Float[Array, ""]:
  """W2GN for one independent pair: two convex potentials, minimised jointly.

    phi(x) - phi(S(y)) + cycle_weight |T(S(y)) - y|^2,
    T = grad phi,  S = grad psi, held constant in the first two terms

  Args:
    potential_fn: phi, [*D] -> [], convex.
    conjugate_fn: psi, [*D] -> [], convex, trained to be phi's conjugate.
    x: an example of the source distribution, [*D].
    y: an independent example of the target distribution, [*D].
    cycle_weight: positive; min(D, 50) in the paper.

  Raises:
    ValueError: x and y differ in shape, a potential is not a scalar, or
      cycle_weight is not positive.

  Reference: Korotin et al. 2021, arXiv:1909.13082, eq. 12.
  """
  if not cycle_weight > 0:
    raise ValueError(
      f"cycle_weight: expected a positive number, got {cycle_weight}"
    )
  costs.require_alike(x=x, y=y)
  back_fn = jax.grad(lambda y: costs.value(conjugate_fn, y))
  forth_fn = jax.grad(lambda x: costs.value(potential_fn, x))
  moved = jax.lax.stop_gradient(back_fn(y))
  gap = wasserstein.dual(potential_fn, moved, x)
  return gap + cycle_weight * cycle(forth_fn, back_fn, y)


def conjugate_point(
  potential_fn: Callable,
  y: Float[Array, "D"],
  start: Float[Array, "..."],
  *,
  num_steps: int,
) -> Float[Array, "D"]:
  """argmin_x phi(x) - <x, y>: the point at which phi's conjugate is attained.

  Newton's method with the best of a few step lengths, and a gradient step where
  none of them decreases the value. Where phi is convex, grad phi(x) = y, so x
  is the inverse of the map grad phi at y. In float32 it is accurate to about
  1e-3, since steps are chosen by their values.

  Args:
    potential_fn: phi, [D] -> [], twice differentiable.
    y: a point of the target distribution, [D].
    start: initial point, [D].
    num_steps: Newton steps, at least 1; three to six from a good start.

  Raises:
    ValueError: num_steps is below 1, y and start are not points [D] of the same
      size, or phi is not a scalar.

  Reference: Amos 2023, arXiv:2210.12153, section 3 (refined conjugates).
  """
  if num_steps < 1:
    raise ValueError(f"num_steps: expected at least 1, got {num_steps}")
  _require_points(y=y[None], start=start[None])
  gap = lambda x: costs.value(potential_fn, x) + costs.inner(x, y)
  sizes = jnp.asarray(_SIZES, start.dtype)

  def along(x, to):
    """The point of the best step length, and whether that is not 0."""
    tried = x[None] + sizes[:, None] * to[None]
    values = jax.vmap(gap)(tried)
    best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
    return tried[best], best < len(sizes) - 1

  def newton(x, _):
    slope = jax.grad(gap)(x)
    factor = jnp.linalg.cholesky(jax.hessian(gap)(x))  # NaN if not positive
    to = -jax.scipy.linalg.cho_solve((factor, True), slope)
    to = jnp.where(jnp.all(jnp.isfinite(to)), to, -slope)
    moved, better = along(x, to)
    # If no Newton step decreases the value, take a gradient step.
    return jnp.where(better, moved, along(x, -slope)[0]), None

  return jax.lax.scan(newton, start, None, length=num_steps)[0]


def semi_dual(
  potential_fn: Callable,
  source: Float[Array, "N ..."],
  target: Float[Array, "M ..."],
  *,
  num_steps: int,
) -> Float[Array, ""]:
  """The semi-dual of the quadratic cost for two clouds, with exact conjugates.

    mean_i phi(x_i) + mean_j phi*(y_j),   phi*(y) = max_x <x, y> - phi(x)
    T = grad phi

  Its gradient is that of mean_i phi(x_i) - mean_j phi(x*(y_j)), with x* held
  constant (Danskin's theorem) and computed by `conjugate_point` from the best
  source point. The function returns this difference of means, which has the
  gradient of the semi-dual but not its value.

  Args:
    potential_fn: phi, [D] -> [], twice differentiable; any smooth network.
    source: x, [N, D].
    target: y, sampled independently, [M, D].
    num_steps: number of Newton steps.

  Raises:
    ValueError: a cloud is empty or not of points [D], or dimensions differ.

  Reference: Amos 2023, arXiv:2210.12153, eq. 7; Taghvaei and Jalali 2019,
  arXiv:1902.07197.
  """
  _require_points(source=source, target=target)
  held = jax.lax.stop_gradient
  values = held(jax.vmap(lambda x: costs.value(potential_fn, x))(source))
  starts = source[jnp.argmax(target @ source.T - values[None], axis=1)]
  back = jax.vmap(
    lambda y, x: conjugate_point(potential_fn, y, x, num_steps=num_steps)
  )(target, starts)
  mean = lambda points: jnp.mean(jax.vmap(potential_fn)(points))
  return mean(source) - mean(held(back))


def barycentric(
  transport_fn: Callable,
  x: Float[Array, "..."],
  y: Float[Array, "..."],
  density: Float[Array, ""],
) -> Float[Array, ""]:
  """Regression on a plan's conditional mean, for one independent pair.

    h |T(x) - y|^2,   h = d plan / d (source x target) at (x, y)

  In expectation over independent pairs, the optimum is T(x) = E_plan[y | x].

  Args:
    transport_fn: T, [*D] -> [*D].
    x: an example of the source distribution, [*D].
    y: an independent example of the target distribution, [*D].
    density: h, from wasserstein.entropic_density or regularised_density, held
      constant.

  Raises:
    ValueError: x and y differ in shape, or T changes the shape.

  Reference: Seguy et al. 2018, arXiv:1711.02283, eq. 11.
  """
  costs.require_alike(x=x, y=y)
  held = jax.lax.stop_gradient(density)
  return held * costs.square(_moved(transport_fn, x), y)


def _require_points(**clouds):
  """Raises ValueError unless two clouds are [N, D] and [M, D], not empty."""
  (first, x), (second, y) = clouds.items()
  if (
    not x.ndim == y.ndim == 2 or x.shape[1] != y.shape[1] or not x.size * y.size
  ):
    raise ValueError(
      f"{first}, {second}: expected points of the same dimension D, at least"
      f" one of each, got {list(x.shape)} and {list(y.shape)}"
    )


def _moved(transport_fn, x):
  moved = transport_fn(x)
  costs.require_alike(x=x, moved=moved)
  return moved
