"""What score and flow matching learn, sampled: an interpolant's flow and SDEs,
straight flows, annealed Langevin; each reaches the law that it should.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance

from jaxgen import fields, paths, samplers
from jaxgen.data import oracles
from jaxgen.losses import flow_matching
from tests.truth import mixture, recursion

DATA, SOURCE = (0.8, 0.3), (-0.5, 0.7)  # means and standard deviations
STD = 0.9
PATHS = dict(linear=paths.linear(), trigonometric=paths.trigonometric())


def law(name, t):
  """Mean and variance of x_t, by hand."""
  scales, t_max = mixture.scales(name), PATHS[name].t_max
  alpha, sigma = scales.alpha(t), scales.sigma(t)
  gamma = STD * np.sqrt(t * (1 - t / t_max))
  return (
    alpha * DATA[0] + sigma * SOURCE[0],
    (alpha * DATA[1]) ** 2 + (sigma * SOURCE[1]) ** 2 + gamma**2,
  )


def exact_field(name):
  """E[velocity | x_t] and E[z | x_t] of two Gaussians, every coordinate."""
  path = PATHS[name]

  def predict_fn(x, t):
    square = STD**2 * t * (1 - t / path.t_max)
    half_rate = STD**2 * (1 - 2 * t / path.t_max) / 2  # gamma gamma'
    alpha, sigma = path.alpha(t), path.sigma(t)
    alpha_rate, sigma_rate = path.rates(t)
    mean = alpha * DATA[0] + sigma * SOURCE[0]
    rate = alpha_rate * DATA[0] + sigma_rate * SOURCE[0]
    d, s = DATA[1] ** 2, SOURCE[1] ** 2
    variance = alpha**2 * d + sigma**2 * s + square
    pull = alpha * alpha_rate * d + sigma * sigma_rate * s + half_rate
    gap = (x - mean) / variance
    return rate + pull * gap, jnp.sqrt(square) * gap

  bridge = flow_matching.brownian(STD, path.t_max)
  return fields.from_interpolant(predict_fn, bridge, path)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("solver, order", [("ode", 4), ("sde", 1)])
def test_flow_and_sde_of_an_interpolant_have_its_marginals(name, solver, order):
  """Moments of the solver's own affine steps, without Monte Carlo."""
  path, few = PATHS[name], (120, 240)
  rate = lambda t: 2.0 * t * (1 - t / path.t_max)  # vanishes where gamma does
  solvers = dict(ode=samplers.rk4(), sde=samplers.euler_maruyama(rate))
  start, ends = 0.97 * path.t_max, np.array([0.6, 0.25, 0.03]) * path.t_max
  grids = [np.linspace(start, end, n + 1) for end in ends for n in few]
  with jax.enable_x64(True):
    # One program: grid after grid, the steps between them left out.
    run = jax.jit(
      lambda times: recursion.affine(solvers[solver], exact_field(name), times)
    )
    maps = jax.device_get(run(jnp.array(np.concatenate(grids))))
  first = np.cumsum([0, *map(len, grids)])
  found = [
    recursion.moments([m[i : i + n] for m in maps], *law(name, start))
    for i, n in zip(first, few * len(ends), strict=False)
  ]
  for end, less, more in zip(ends, found[::2], found[1::2], strict=True):
    truth = np.array(law(name, end))
    np.testing.assert_allclose(more, truth, atol=0.05 * truth[1])
    limit = more + (more - less) / (2**order - 1)
    np.testing.assert_allclose(limit, truth, rtol=0, atol=1e-3 * truth[1])


def test_reflow_of_a_straight_coupling_is_the_identity():
  """data = A source, A positive: lines that never cross."""
  rng = np.random.default_rng(0)
  root, source = rng.standard_normal((2, 3, 3))
  matrix, eye = root @ root.T + 0.5 * np.eye(3), np.eye(3)
  path, key = paths.linear(), jax.random.key(0)
  options = dict(path=path, bridge=flow_matching.constant(0.0))
  options |= dict(weight=jnp.ones_like)

  def velocity_fn(x, t):
    at_one = jnp.linalg.solve((1 - t) * matrix + t * eye, x)
    return (eye - matrix) @ at_one

  @jax.jit
  @jax.vmap
  def run(data, source, key):
    loss = lambda t: flow_matching.flow_matching(
      velocity_fn, data, source, 0 * data, t, **options
    )
    field, ends = fields.from_velocity(velocity_fn), []
    for n in (1, 7):
      grid = jnp.linspace(1.0, 0.0, n + 1), jax.random.fold_in(key, n)
      end = samplers.integrate(samplers.euler(), field, source, *grid)
      ends.append(end)
    return jax.vmap(loss)(jnp.linspace(0.0, 1.0, 9)), jnp.stack(ends)

  with jax.enable_x64(True):
    data = jnp.array(source @ matrix)
    losses, ends = run(data, jnp.array(source), jax.random.split(key, 3))
  np.testing.assert_allclose(losses, 0, atol=1e-24)
  for end in np.moveaxis(np.asarray(ends), 1, 0):
    np.testing.assert_allclose(end, data, rtol=1e-9)


def energy_distance(x, y):
  """2 E|x - y| - E|x - x'| - E|y - y'|, the V statistic."""
  mean = lambda a, b: distance.cdist(a, b).mean()
  return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def test_annealed_langevin_reaches_the_weights_of_a_mixture():
  """Within the floor: the largest of 20 distances of two exact samples."""
  number, path = 500, paths.edm()
  mix = oracles.Mixture(
    np.array([0.8, 0.2]), np.array([[2.0, 0.0], [-2.0, 1.0]]), np.full(2, 0.3)
  )
  times = samplers.grids.log_snr(path, 24, 0.05, 20.0)

  @jax.jit
  @jax.vmap
  def run(key):
    start_key, key, *keys = jax.random.split(key, 4)
    x = times[0] * jax.random.normal(start_key, (2,))
    solver = samplers.annealed(num_corrections=20, snr=0.3)
    x = samplers.integrate(solver, mix.field(path), x, times, key)
    wrong = mix._replace(weights=np.array([0.7, 0.3])).sample(keys[0])
    return x, wrong, jax.vmap(mix.sample)(jax.random.split(keys[1], 40))

  keys = jax.random.split(jax.random.key(0), number)
  x, wrong, exact = map(np.asarray, run(keys))
  floor = [
    energy_distance(exact[:, i], exact[:, i + 1]) for i in range(0, 40, 2)
  ]
  assert energy_distance(x, exact[:, 0]) < max(floor)
  assert energy_distance(wrong, exact[:, 0]) > max(floor)
