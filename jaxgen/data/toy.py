"""Distributions on the plane, with exact density and score where they exist.

A toy has a function that samples ONE example (jax.vmap over keys for many), its
log-density and score, and, if the distribution is a Gaussian mixture, the
mixture: denoiser, velocity, score and density on every Gaussian path
(data/oracles.py).

A curve c(u), u uniform in [0, 1], plus Gaussian noise is such a mixture too:

  p(x) = int_0^1 N(x; c(u), noise^2 I) du = sum_k w_k N(x; c(u_k), noise^2 I)

with Gauss-Legendre nodes u_k and weights w_k, 12 on each panel of at most four
standard deviations of arc length. In float64 its relative error is below 1e-9
wherever p exceeds 1e-6 of its maximum.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import paths
from jaxgen.data import oracles


class Toy(NamedTuple):
  """A distribution on the plane; None for what has no closed form.

  Attributes:
    sample: key -> one example, [2].
    log_prob: [2] -> log-density in nats, [].
    score: [2] -> gradient of the log-density, [2].
    mixture: the same distribution, with all estimates on every path.
  """

  sample: Callable
  log_prob: Callable | None = None
  score: Callable | None = None
  mixture: oracles.Mixture | None = None


def from_mixture(mixture: oracles.Mixture) -> Toy:
  """A mixture's samples, density and score: those of any path at t = 0."""
  path = paths.linear()
  return Toy(
    mixture.sample,
    lambda x: mixture.log_prob(path, x, 0.0),
    lambda x: mixture.score(path, x, 0.0),
    mixture,
  )


def gaussian(dim: int = 2, mean: float = 0.0) -> Toy:
  """N(mean, I) in any dimension; by default the plane's standard normal."""
  means = np.full((1, dim), float(mean))
  return from_mixture(oracles.Mixture(np.ones(1), means, np.ones(1)))


def eight_gaussians(radius: float = 5.0, std: float = 0.562) -> Toy:
  """Eight equal Gaussians on a circle, the first at angle zero.

    radius  std            where
    5       .562 (.1^1/4)  Tong et al. 2023, arXiv:2302.00482 (the default)
    1       .05            truncation errors of EDM samplers (docs/results)
    2       .1             the ring of GANs, as in arXiv:1611.02163

  Args:
    radius: radius of the circle of means, positive.
    std: standard deviation of each Gaussian along each axis, positive.

  Raises:
    ValueError: radius or std is not positive.
  """
  _check_positive(radius=radius, std=std)
  angle = np.arange(8) * math.pi / 4
  means = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
  weights, stds = np.full(8, 1 / 8), np.full(8, std)
  return from_mixture(oracles.Mixture(weights, means, stds))


def moons(noise: float = 0.2, scale: float = 3.0, shift: float = -1.0) -> Toy:
  """Two half circles: scale (scikit-learn's make_moons + noise z) + shift.

  The defaults are the scale, shift and noise of Tong et al. 2023,
  arXiv:2302.00482, with Gaussian noise as in scikit-learn; torchdyn_moons has
  the noise of their code. With scale=1, shift=0 this is make_moons itself.

  Args:
    noise: standard deviation before scaling; at zero there is no density.
    scale: factor on the noisy curve, positive.
    shift: added to both coordinates.

  Raises:
    ValueError: noise is negative or scale is not positive.
  """
  return _noisy_curve(_moons(), math.pi, noise, scale, shift)


def torchdyn_moons() -> Toy:
  """Moons with one uniform noise value, added to both coordinates.

    3 (half circle + .2 (u, u)) - 1,   u uniform in [0, 1]

  The distribution of torchdyn's generate_moons, as scaled by torchcfm's code
  for Tong et al. 2023, arXiv:2302.00482, table 2.
  """
  draw = _curve_sampler(_moons())

  def sample(key):
    curve_key, noise_key = jax.random.split(key)
    return 3 * (draw(curve_key) + 0.2 * jax.random.uniform(noise_key)) - 1

  return Toy(sample)


def s_curve(noise: float = 0.1, scale: float = 1.5) -> Toy:
  """Scikit-learn's make_s_curve, its first and third axes, times scale.

    scale ((sin v, sign(v) (cos v - 1)) + noise z),   v uniform in +-3 pi/2

  Scale 1.5 is that of Tong et al. 2023, arXiv:2302.00482.

  Args:
    noise: standard deviation before scaling; at zero there is no density.
    scale: factor on the noisy curve, positive.

  Raises:
    ValueError: noise is negative or scale is not positive.
  """
  length = 1.5 * math.pi

  def upper(xp, u):
    return xp.sin(-length * u), 1 - xp.cos(length * u)

  def lower(xp, u):
    return xp.sin(length * u), xp.cos(length * u) - 1

  return _noisy_curve((upper, lower), length, noise, scale, 0.0)


def swiss_roll(noise: float = 1.0, scale: float = 0.2) -> Toy:
  """Scikit-learn's make_swiss_roll, its first and third axes, times scale.

    scale (v (cos v, sin v) + noise z),   v uniform in 3 pi/2 [1, 3]

  The defaults are those of FFJORD, Grathwohl et al. 2018, arXiv:1810.01367.

  Args:
    noise: standard deviation before scaling; at zero there is no density.
    scale: factor on the noisy curve, positive.

  Raises:
    ValueError: noise is negative or scale is not positive.
  """

  def roll(xp, u):
    v = 1.5 * math.pi * (1 + 2 * u)
    return v * xp.cos(v), v * xp.sin(v)

  top_speed = 3 * math.pi * math.hypot(1, 4.5 * math.pi)
  return _noisy_curve((roll,), top_speed, noise, scale, 0.0)


def checkerboard(num_cells: int = 4, half_width: float = 4.0) -> Toy:
  """Uniform on the black cells of a checkerboard; the lower left one is black.

  The defaults are those of FFJORD, Grathwohl et al. 2018, arXiv:1810.01367:
  eight cells of side 2 in [-4, 4]^2. log_prob is -inf off the black cells; the
  score is zero inside them, and returned as zero everywhere.

  Args:
    num_cells: number of cells along a side, even.
    half_width: half the side length; the board is [-half_width, half_width]^2.

  Raises:
    ValueError: num_cells is odd or below two, or half_width is not positive.
  """
  if num_cells < 2 or num_cells % 2:
    raise ValueError(f"num_cells: expected even and above 0, got {num_cells}")
  _check_positive(half_width=half_width)
  side = 2 * half_width / num_cells
  log_density = -math.log(2 * half_width**2)

  def sample(key):
    column_key, pair_key, place_key = jax.random.split(key, 3)
    column = jax.random.randint(column_key, (), 0, num_cells)
    pair = jax.random.randint(pair_key, (), 0, num_cells // 2)
    corner = jnp.stack([column, 2 * pair + column % 2])
    place = jax.random.uniform(place_key, (2,))
    return side * (corner.astype(place.dtype) + place) - half_width

  def log_prob(x):
    cell = jnp.floor((x + half_width) / side)
    on_board = jnp.all((cell >= 0) & (cell < num_cells))
    black = on_board & (cell.sum() % 2 == 0)
    return jnp.where(black, log_density, -jnp.inf).astype(x.dtype)

  return Toy(sample, log_prob, jnp.zeros_like)


def pinwheel(
  num_arms: int = 5,
  radial_std: float = 0.3,
  tangential_std: float = 0.1,
  rate: float = 0.25,
  scale: float = 2.0,
) -> Toy:
  """Gaussian arms, twisted more at larger radius; no closed-form density.

    f = (1 + radial_std z_1, tangential_std z_2),
    scale R(-angle) f,   angle = 2 pi arm / num_arms + rate exp(f_1)

  where R(a) rotates by a. The defaults are those of FFJORD, Grathwohl et al.
  2018, arXiv:1810.01367, after Johnson et al. 2016, arXiv:1603.06277.

  Args:
    num_arms: number of arms, at least one.
    radial_std: standard deviation along an arm.
    tangential_std: standard deviation across an arm.
    rate: strength of the twist.
    scale: factor on the samples, positive.

  Raises:
    ValueError: num_arms is below one or scale is not positive.
  """
  if num_arms < 1:
    raise ValueError(f"num_arms: expected at least 1, got {num_arms}")
  _check_positive(scale=scale)

  def sample(key):
    arm_key, noise_key = jax.random.split(key)
    arm = jax.random.randint(arm_key, (), 0, num_arms)
    z = jax.random.normal(noise_key, (2,))
    radial, tangential = 1 + radial_std * z[0], tangential_std * z[1]
    turn = 2 * math.pi * arm.astype(z.dtype) / num_arms
    angle = turn + rate * jnp.exp(radial)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return scale * jnp.stack(
      [cos * radial + sin * tangential, cos * tangential - sin * radial]
    )

  return Toy(sample)


def _moons():
  """Arcs (xp, u) -> point: xp is jnp to sample, np (float64) for quadrature."""
  outer = lambda xp, u: (xp.cos(math.pi * u), xp.sin(math.pi * u))
  inner = lambda xp, u: (1 - xp.cos(math.pi * u), 0.5 - xp.sin(math.pi * u))
  return outer, inner


def _curve_sampler(arcs):
  """key -> a point [2] of one of the arcs, which are equally probable."""

  def sample(key):
    arc_key, place_key = jax.random.split(key)
    u = jax.random.uniform(place_key)
    points = jnp.stack([jnp.stack(arc(jnp, u)) for arc in arcs])
    return points[jax.random.randint(arc_key, (), 0, len(arcs))]

  return sample


def _noisy_curve(arcs, top_speed, noise, scale, shift):
  """scale (arc + noise z) + shift; top_speed bounds |d arc / du|."""
  _check_positive(scale=scale)
  if not noise >= 0:
    raise ValueError(f"noise: expected zero or more, got {noise}")
  draw = _curve_sampler(arcs)

  def sample(key):
    curve_key, noise_key = jax.random.split(key)
    z = jax.random.normal(noise_key, (2,))
    return scale * (draw(curve_key) + noise * z) + shift

  if noise == 0:
    return Toy(sample)
  num_panels = math.ceil(top_speed / (4 * noise))
  nodes, node_weights = np.polynomial.legendre.leggauss(12)
  nodes = (np.arange(num_panels)[:, None] + (nodes + 1) / 2) / num_panels
  weights = np.tile(node_weights / 2, num_panels * len(arcs))
  points = [np.stack(arc(np, nodes.ravel()), 1) for arc in arcs]
  mixture = oracles.Mixture(
    weights / (num_panels * len(arcs)),
    scale * np.concatenate(points) + shift,
    np.full(len(weights), scale * noise),
  )
  return from_mixture(mixture)._replace(sample=sample)


def _check_positive(**values):
  for name, value in values.items():
    if not value > 0:
      raise ValueError(f"{name}: expected a positive number, got {value}")
