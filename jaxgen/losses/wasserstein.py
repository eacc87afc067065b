"""Kantorovich duals: the losses of critics that measure a transport cost.

  W1 = max E f(data) - E f(generated),  f 1-Lipschitz  Kantorovich, Rubinstein
  OT = max E f(data) + E f^c(generated),
       f^c(y) = min_x c(x, y) - f(x)                   the semi-dual
  OT = max E u(x) + E v(y),  u(x) + v(y) <= c(x, y)    the dual

A critic is high on data. Every loss is to be minimised, so the dual's value is
minus its mean, without the penalty. The critic is kept 1-Lipschitz by:

  projection     clip_weights
  a penalty      gradient_penalty, divergence_penalty, quadratic
  construction   models.lipschitz: the value is then a lower bound of W1

Data and generated examples are independent samples; no pairing is needed.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxgen import costs


def dual(
  critic_fn: Callable,
  data: Float[Array, "..."],
  generated: Float[Array, "..."],
) -> Float[Array, ""]:
  """The Kantorovich-Rubinstein dual for one pair: f(generated) - f(data).

  Also the potential's loss in every max-min game (losses.transport_maps), with
  T(x) as the generated example. The generator's loss is -f(generated).

  Args:
    critic_fn: f, [*D] -> [], parameters bound.
    data: a data example, [*D].
    generated: a generated example, [*D].

  Returns:
    The loss, []. Reduce over a batch with vmap and mean.

  Raises:
    ValueError: the examples differ in shape, or f is not a scalar.

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, eq. 2.
  """
  costs.require_alike(data=data, generated=generated)
  return costs.value(critic_fn, generated) - costs.value(critic_fn, data)


def clip_weights(params: PyTree, bound: float) -> PyTree:
  """Every parameter clipped to [-bound, bound], after a critic's update.

  This bounds the critic's slope by an unknown constant other than 1.

  Raises:
    ValueError: bound is not positive.

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1 (bound .01).
  """
  if not bound > 0:
    raise ValueError(f"bound: expected a positive number, got {bound}")
  return jax.tree.map(lambda p: jnp.clip(p, -bound, bound), params)


def slope(critic_fn: Callable, x: Float[Array, "*D"]) -> Float[Array, ""]:
  """|grad f(x)|, with gradient 0 where it vanishes."""
  return costs.norm(jax.grad(lambda x: costs.value(critic_fn, x))(x))


def between(
  data: Float[Array, "..."],
  generated: Float[Array, "..."],
  mix: Float[Array, ""],
) -> Float[Array, "..."]:
  """mix data + (1 - mix) generated, with mix sampled from U[0, 1]."""
  costs.require_alike(data=data, generated=generated)
  return mix * data + (1 - mix) * generated


def gradient_penalty(
  critic_fn: Callable, x: Float[Array, "*D"]
) -> Float[Array, ""]:
  """The WGAN-GP penalty at one point: (|grad f(x)| - 1)^2.

  An optimal critic has slope 1 along the segments on which mass moves, not on
  those between independent samples. So the dual's value is not a bound of W1.

  Args:
    critic_fn: f, [*D] -> [].
    x: a point from `between`, [*D].

  Returns:
    The penalty, []; its weight in the paper is 10.

  Reference: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3.
  """
  return (slope(critic_fn, x) - 1) ** 2


def lipschitz_penalty(
  critic_fn: Callable, x: Float[Array, "*D"]
) -> Float[Array, ""]:
  """The WGAN-LP penalty at one point: max(|grad f(x)| - 1, 0)^2, one-sided.

  Args and Returns: as in `gradient_penalty`.

  Reference: Petzka et al. 2018, arXiv:1709.08894, eq. 8.
  """
  return jax.nn.relu(slope(critic_fn, x) - 1) ** 2


def divergence_penalty(
  critic_fn: Callable, x: Float[Array, "*D"], power: float = 6.0
) -> Float[Array, ""]:
  """The WGAN-div penalty at one point: |grad f(x)|^power, used with weight 2.

  The value is then another divergence, not W1.

  Args:
    critic_fn: f, [*D] -> [].
    x: a point from `between`, or any other, [*D].
    power: exponent, above 1.

  Raises:
    ValueError: power is not above 1.

  Reference: Wu et al. 2018, arXiv:1712.01026, eq. 8.
  """
  if not power > 1:
    raise ValueError(f"power: expected above 1, got {power}")
  return slope(critic_fn, x) ** power


def quadratic(
  critic_fn: Callable,
  data: Float[Array, "..."],
  generated: Float[Array, "..."],
  scale: float = 10.0,
) -> Float[Array, ""]:
  """GAN-QP for one pair: a dual with a quadratic term instead of a penalty.

    -T + T^2 / (2 scale d),  T = f(data) - f(generated),
    d = mean_i |data_i - generated_i|

  The slope of f is not constrained, but T stays of the order of scale d: the
  optimum for a single pair is T = scale d. The generator's loss is T.

  Args:
    critic_fn: f, [*D] -> [].
    data: a data example, [*D].
    generated: a generated example, [*D].
    scale: lambda, positive.

  Raises:
    ValueError: scale is not positive, or as in `dual`.

  Reference: Su 2018, arXiv:1811.07296, eq. 22.
  """
  if not scale > 0:
    raise ValueError(f"scale: expected a positive number, got {scale}")
  gain = -dual(critic_fn, data, generated)
  apart = jnp.mean(jnp.abs(data - generated))
  # If data = generated, T is 0, and so is the loss.
  return -gain + gain**2 / (2 * scale * jnp.where(apart > 0, apart, 1.0))


def semi_dual(
  critic_fn: Callable,
  data: Float[Array, "N ..."],
  generated: Float[Array, "M ..."],
  *,
  cost: costs.Cost,
) -> Float[Array, ""]:
  """The semi-dual of two clouds, with conjugates over the batch (MM-B).

    -mean_i f(x_i) - mean_j min_i [c(x_i, y_j) - f(x_i)]

  For the clouds themselves it is the exact semi-dual, whose value is at most
  their transport cost. As an estimate for their distributions it is biased.

  Args:
    critic_fn: f, [*D] -> [].
    data: x, [N, *D].
    generated: y, [M, *D].
    cost: c, ([*D], [*D]) -> [].

  Returns:
    The loss of both clouds, [].

  Raises:
    ValueError: the points differ in shape, a cloud is empty, or f is not a
      scalar.

  Reference: Korotin et al. 2022, arXiv:2206.07767, section 3 (MM:B); Mallasto
  et al. 2019, arXiv:1910.03875 (the c-transform).
  """
  if data.shape[1:] != generated.shape[1:]:
    raise ValueError(
      f"generated: expected points {list(data.shape[1:])}, those of data, got"
      f" {list(generated.shape[1:])}"
    )
  if not len(data) or not len(generated):
    raise ValueError(
      f"data, generated: expected clouds of at least one point, got {len(data)}"
      f" and {len(generated)}"
    )
  values = jax.vmap(lambda x: costs.value(critic_fn, x))(data)
  apart = jax.vmap(lambda x: jax.vmap(lambda y: cost(x, y))(generated))(data)
  conjugate = jnp.min(apart - values[:, None], axis=0)
  return -jnp.mean(values) - jnp.mean(conjugate)


def entropic(
  first_fn: Callable,
  second_fn: Callable,
  x: Float[Array, "..."],
  y: Float[Array, "..."],
  *,
  cost: costs.Cost,
  epsilon: float,
) -> Float[Array, ""]:
  """The dual of entropic transport for one independent pair.

    -u(x) - v(y) + epsilon exp(s / epsilon),   s = u(x) + v(y) - c(x, y)

  At its optimum exp(s / epsilon) is the plan's density with respect to the
  product of the distributions (`entropic_density`), with mean 1, and the mean
  loss is

    epsilon - OT_epsilon,   OT_epsilon = min E_plan c + epsilon KL(plan|product)

  Args:
    first_fn: u, [*D] -> [].
    second_fn: v, [*D] -> [].
    x: a sample of the first distribution, [*D].
    y: an independent sample of the second, [*D].
    cost: c, ([*D], [*D]) -> [].
    epsilon: regularisation, in the cost's units, positive.

  Raises:
    ValueError: epsilon is not positive, x and y differ in shape, or a potential
      is not a scalar.

  Reference: Seguy et al. 2018, arXiv:1711.02283, eq. 6.
  """
  sums, slack = _slack(first_fn, second_fn, x, y, cost, epsilon)
  return -sums + epsilon * jnp.exp(slack / epsilon)


def regularised(
  first_fn: Callable,
  second_fn: Callable,
  x: Float[Array, "..."],
  y: Float[Array, "..."],
  *,
  cost: costs.Cost,
  epsilon: float,
) -> Float[Array, ""]:
  """The dual of L2-regularised transport for one independent pair.

    -u(x) - v(y) + max(s, 0)^2 / (4 epsilon),   s = u(x) + v(y) - c(x, y)

  At its optimum h = max(s, 0) / (2 epsilon) is the sparse density of the plan
  (`regularised_density`), and the mean loss is

    -(min E_plan c + epsilon E_product h^2)

  Args, Raises and Reference: as in `entropic`.
  """
  sums, slack = _slack(first_fn, second_fn, x, y, cost, epsilon)
  return -sums + jax.nn.relu(slack) ** 2 / (4 * epsilon)


def entropic_density(slack: Float[Array, ""], epsilon: float):
  """The plan's density in `entropic`: exp(s / epsilon), for the slack s."""
  return jnp.exp(slack / epsilon)


def regularised_density(slack: Float[Array, ""], epsilon: float):
  """The plan's density in `regularised`: max(s, 0) / (2 epsilon), slack s."""
  return jax.nn.relu(slack) / (2 * epsilon)


def _slack(first_fn, second_fn, x, y, cost, epsilon):
  """(u(x) + v(y), u(x) + v(y) - c(x, y)) for one pair."""
  if not epsilon > 0:
    raise ValueError(f"epsilon: expected a positive number, got {epsilon}")
  costs.require_alike(x=x, y=y)
  sums = costs.value(first_fn, x) + costs.value(second_fn, y)
  return sums, sums - cost(x, y)
