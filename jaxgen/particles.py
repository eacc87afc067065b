"""Flows of particles: fields on sets, whose x is a whole cloud [N, *D].

  dx_i/dt = v(x_i; x_1, ..., x_N)

Each is the gradient flow of a functional of the cloud's distribution rho, in
the metric W2, toward a target known by samples y [M, *D], by its density, or by
a discriminator. Time runs forward from 0, on an increasing grid; any ODE solver
of samplers integrates it, by samplers.integrate, with the cloud as its one x.

  sliced_wasserstein   SW2^2(rho, samples) / 2
  mmd                  MMD^2(rho, samples) / 2
  stein                KL(rho | density), in the space of a kernel
  discriminator        KL(rho | data), or another divergence

The fields are deterministic functions of the cloud: random directions are drawn
once and are an argument. Drawing them from the time of a step would tie them to
the grid; for other directions, integrate in stages, with a field for each.

A JKO step (losses.jko) gives a map T of points; its field on a cloud is
fields.from_transport_map(jax.vmap(T), cloud).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgen import costs, fields, keys

Kernel = Callable[[Array, Array], Float[Array, ""]]


def gaussian(bandwidth: float) -> Kernel:
  """k(x, y) = exp(-|x - y|^2 / (2 bandwidth^2)).

  Raises:
    ValueError: the bandwidth is not positive.
  """
  _require_positive("bandwidth", bandwidth)
  return lambda x, y: jnp.exp(-costs.square(x, y) / (2 * bandwidth**2))


def inverse_multiquadric(scale: float) -> Kernel:
  """k(x, y) = 1 / sqrt(1 + |x - y|^2 / scale^2), which decays slowly.

  Raises:
    ValueError: the scale is not positive.
  """
  _require_positive("scale", scale)
  return lambda x, y: jax.lax.rsqrt(1 + costs.square(x, y) / scale**2)


def energy(x: Float[Array, "*D"], y: Float[Array, "*D"]) -> Float[Array, ""]:
  """The kernel -|x - y|, whose MMD^2 is the squared energy distance."""
  return -costs.distance(x, y)


def directions(
  key: Array, num_directions: int, size: int
) -> Float[Array, "K D"]:
  """Independent directions, uniform on the unit sphere, [K, D].

  Raises:
    ValueError: a number is below 1, or key is a legacy key.
  """
  keys.require_typed(key)
  for name, number in dict(num_directions=num_directions, size=size).items():
    if number < 1:
      raise ValueError(f"{name}: expected at least 1, got {number}")
  found = jax.random.normal(key, (num_directions, size))
  return found / jnp.linalg.norm(found, axis=1, keepdims=True)


def sliced_wasserstein(
  target: Float[Array, "M ..."], along: Float[Array, "K D"]
) -> fields.Field:
  """The sliced Wasserstein flow, exact for any two numbers of points.

    v(x_i) = mean_k e_k (Q_k(x_i) - <x_i, e_k>)

  If <x_i, e_k> has rank r among the cloud, Q_k(x_i) is the mean quantile of the
  target's <y, e_k> between r / N and (r + 1) / N: the optimal displacement in
  one dimension. In D dimensions the mean of e e^T over all directions is I / D,
  so a translation is completed at rate 1 / D. With fixed directions the flow
  fits the projections on these alone.

  Args:
    target: y, samples of the target, [M, *D].
    along: e, unit vectors for the flattened points, [K, D]: `directions`.

  Raises:
    ValueError: the target is empty, or the directions have another size. The
      field raises if the cloud's points have another shape.

  Reference: Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51;
  Liutkus et al. 2019, arXiv:1806.08141, eq. 14.
  """
  _require_points(target)
  flat = target.reshape(len(target), -1)
  if along.ndim != 2 or along.shape[1] != flat.shape[1] or not len(along):
    raise ValueError(
      f"along: expected directions [K, {flat.shape[1]}], got"
      f" {list(along.shape)}"
    )
  known = jnp.sort(along @ flat.T)  # [K, M]

  def velocity(x, t):
    _require_cloud(x, target)
    apart = along @ x.reshape(len(x), -1).T  # [K, N]
    order = jnp.argsort(apart)
    back = jnp.argsort(order)
    wanted = jnp.take_along_axis(_quantiles(known, len(x)), back, 1)
    return ((wanted - apart).T @ along / len(along)).reshape(x.shape)

  return fields.from_velocity(velocity)


def mmd(
  target: Float[Array, "M ..."],
  kernel: Kernel,
  shift: Float[Array, "N ..."] | None = None,
) -> fields.Field:
  """The flow of the squared maximum mean discrepancy.

    v(x_i) = -grad f(x_i + s_i),   f(x) = mean_j k(x, x_j) - mean_m k(x, y_m)

  Only the first argument of k is differentiated; for s = 0 the velocity is
  -N / 2 times the gradient of the clouds' MMD^2. With a kernel of bounded
  width, particles far from the target do not move: use a wide one, or `energy`,
  or inject noise. For that, each step has a field of its own, with new shifts
  s = b u, u ~ N(0, I), whose scale b falls from step to step. On average they
  widen a Gaussian kernel, from h^2 to h^2 + b^2.

  Args:
    target: y, samples of the target, [M, *D].
    kernel: k, ([*D], [*D]) -> [], symmetric: `gaussian`,
      `inverse_multiquadric`, `energy`.
    shift: s, where the slope of each particle is taken, [N, *D]; None is 0.

  Raises:
    ValueError: the target is empty. The field raises if the cloud's points have
      another shape, or the shifts another than the cloud.

  Reference: Arbel et al. 2019, arXiv:1906.04370, eq. 5 and 16 (noise);
  Hertrich et al. 2024, arXiv:2305.11463 (the energy kernel).
  """
  _require_points(target)

  def velocity(x, t):
    _require_cloud(x, target)

    def witness(point, cloud):
      mean = lambda others: jax.vmap(lambda y: kernel(point, y))(others).mean()
      return mean(target) - mean(cloud)

    if shift is not None and shift.shape != x.shape:
      raise ValueError(
        f"shift: expected shape {x.shape}, the cloud's, got {shift.shape}"
      )
    at = x if shift is None else x + shift
    return jax.vmap(jax.grad(witness), (0, None))(at, x)

  return fields.from_velocity(velocity)


def stein(log_prob: Callable, kernel: Kernel | None = None) -> fields.Field:
  """Stein variational gradient descent (SVGD), as a flow.

    v(x_i) = mean_j (k(x_j, x_i) grad log p(x_j) + grad_x_j k(x_j, x_i))

  One particle follows grad log p. The first term draws the particles to high
  density, the second keeps them apart.

  Args:
    log_prob: log p up to a constant, [*D] -> [].
    kernel: k; None is the Gaussian whose bandwidth is the median distance of
      two particles over sqrt(2 log(N + 1)), so that the kernels of all others
      add up to about 1; it changes with the cloud.

  Reference: Liu and Wang 2016, arXiv:1608.04471, eq. 8 and section 5 (the
  median).
  """

  def velocity(x, t):
    k = _median_kernel(x) if kernel is None else kernel
    score = jax.vmap(jax.grad(log_prob))(x)

    def of(point):
      values, slopes = jax.vmap(jax.value_and_grad(k), (0, None))(x, point)
      drawn = jnp.tensordot(values, score, 1) / len(x)
      return drawn + slopes.mean(0)

    return jax.vmap(of)(x)

  return fields.from_velocity(velocity)


def discriminator(
  log_ratio: Callable, weight: Callable[[Array], Any] = jnp.ones_like
) -> fields.Field:
  """The flow along a discriminator that estimates a log density ratio.

    v(x_i) = h(d(x_i)) grad d(x_i),   d = log p_data - log rho

  It is for the caller to state that d estimates this ratio, as the logit of a
  discriminator does that is trained by the logistic loss on equally many points
  of data and cloud, and as a critic of W1 does not. d holds for the cloud that
  it was trained on: flow for a short time, then train it again.

  Args:
    log_ratio: d, [*D] -> [], high on data.
    weight: h, [] -> []; 1 is the flow of KL(rho | data). That of the divergence
      int f(rho / p) p has h(d) = r f''(r), r = exp(-d).

  Raises:
    ValueError: d(x) is not a scalar, when the field is called.

  Reference: Ansari et al. 2021, arXiv:2012.00780, eq. 6 and 9.
  """

  def velocity(point):
    value, slope = jax.value_and_grad(lambda x: costs.value(log_ratio, x))(
      point
    )
    return weight(value) * slope

  return fields.from_velocity(lambda x, t: jax.vmap(velocity)(x))


def _quantiles(known, number):
  """Means of the quantile functions [K, M] between r / N and (r + 1) / N.

  The function is constant on each of the steps that the two partitions of
  [0, 1] have together, whose ends are multiples of 1 / (N M).
  """
  size = known.shape[1]
  if size % number == 0:
    return known.reshape(len(known), number, -1).mean(2)
  ends = [np.arange(n + 1) * m for n, m in ((number, size), (size, number))]
  steps = np.union1d(*ends)
  starts, lengths = steps[:-1], np.diff(steps) / size
  values = known[:, starts // number] * jnp.asarray(lengths, known.dtype)[None]
  found = jnp.zeros((len(known), number), known.dtype)
  return found.at[:, starts // size].add(values)


def _median_kernel(x):
  """The Gaussian kernel of the median heuristic, or of the mean if that is 0.

  Its bandwidth is 1 where no two points differ.
  """
  if len(x) == 1:
    return gaussian(1.0)
  first, second = np.triu_indices(len(x), 1)
  squares = jax.vmap(costs.square)(x[first], x[second])
  middle = jnp.median(squares)
  middle = jnp.where(middle > 0, middle, jnp.mean(squares))
  scale = 2 * math.log(len(x) + 1)
  variance = jnp.where(middle > 0, middle, scale) / scale
  return lambda x, y: jnp.exp(-costs.square(x, y) / (2 * variance))


def _require_positive(name, value):
  if not value > 0:
    raise ValueError(f"{name}: expected a positive number, got {value}")


def _require_points(target):
  if not len(target):
    raise ValueError("target: expected at least 1 point, got 0")


def _require_cloud(x, target):
  if x.ndim != target.ndim or x.shape[1:] != target.shape[1:]:
    raise ValueError(
      f"x: expected a cloud [N, {str(list(target.shape[1:]))[1:-1]}] of points"
      f" as in the target, got {list(x.shape)}"
    )
