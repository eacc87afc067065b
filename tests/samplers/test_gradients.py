"""Derivatives of every solver: of the field, the start, the path, the times."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, paths, samplers
from jaxgen.samplers import forms, multistep
from tests.samplers.menu import FEW, SOLVERS
from tests.truth import mixture

# The same number of times, all different and with a pair and three alike.
PLAIN = np.geomspace(1.9, 0.05, 9)
REPEATED = PLAIN[[0, 1, 1, 2, 3, 4, 4, 4, 5]]
NORMAL = fields.from_log_density(lambda x: -jnp.sum(x**2 + x**4 / 4))
every_solver = pytest.mark.parametrize("name", SOLVERS)


def _learned(decay, slope):
  """alpha = exp(-decay t), sigma = slope t alpha."""
  alpha = lambda t: jnp.exp(-decay * t)
  return paths.Path(
    alpha, lambda t: slope * t * alpha(t), lambda ratio: ratio / slope
  )


def _derivatives(loss, values, plain=False):
  """By both modes, remat in reverse, and by differences: [ways, values]."""
  h, moves = 1e-5, jnp.eye(len(values))
  found = [
    jax.jacfwd(lambda v: loss(v, plain=True))(values),
    jax.grad(lambda v: loss(v, plain=False))(values),
  ]
  if plain:
    found.append(jax.grad(lambda v: loss(v, plain=True))(values))
  at = values[None] + h * jnp.concatenate([moves, -moves])
  above, below = jax.vmap(lambda v: loss(v, plain=True))(at).reshape(2, -1)
  return jnp.stack(found), (above - below) / (2 * h)


def _check(loss, values, plain, grids):
  """On each grid, by one program; no derivative is 0."""

  @jax.jit
  def run(values, times):
    return _derivatives(functools.partial(loss, times), values, plain)

  with jax.enable_x64(True), jax.debug_key_reuse(False):  # the same draws
    for times in grids:
      found, differences = run(jnp.asarray(values), jnp.asarray(times))
      assert (np.abs(differences) > 1e-4).all(), differences
      for way in found:
        np.testing.assert_allclose(way, differences, rtol=2e-6, atol=1e-8)


@every_solver
def test_derivatives_equal_finite_differences(name):
  """Those to times move repeated ones together: a step stays of length 0."""

  def loss(times, values, plain):
    scale, decay, slope, stretch = values
    solver, path = SOLVERS[name], _learned(decay, slope)
    solver = solver if plain else samplers.remat(solver)
    # Of the data and of the start: two roads.
    field, x = mixture.field(path, scale), scale * jnp.array([1.76, 0.4])
    times, key = times ** (1 + stretch), jax.random.key(2)
    end = samplers.integrate(solver, field, x, times, key)
    return end @ jnp.array([1.0, -0.5])

  _check(loss, [0.9, 0.4, 1.3, 0.0], name in FEW, [PLAIN, REPEATED])


@pytest.mark.parametrize("name", ["mala", "baoab"])
def test_derivatives_on_a_stationary_density(name):
  def loss(times, values, plain):
    scale, stretch = values
    solver = getattr(samplers, name)()
    solver = solver if plain else samplers.remat(solver)
    x, key = scale * jnp.array([0.7, -0.2]), jax.random.key(2)
    times = times * (1 + stretch)
    return samplers.integrate(solver, NORMAL, x, times, key) @ jnp.ones(2)

  _check(loss, [0.9, 0.0], True, [0.1 * PLAIN, 0.1 * REPEATED])


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_derivatives_where_ddim_ends_without_noise(eta):
  """To sigma = 0, where the clock of the step is infinite; one-sided truth."""
  denoise = lambda x, t: fields.Estimate(data=jnp.tanh(x) * (1 + t))
  field = fields.Field(denoise, _learned(0.4, 1.3))
  times = np.array([1.2, 0.5, 0.2, 0.0])

  @jax.jit
  def run(times):
    x, key = jnp.array([1.76, 0.4]), jax.random.key(2)
    end = samplers.integrate(samplers.ddim(eta), field, x, times, key)
    return end @ jnp.array([1.0, -0.5])

  with jax.enable_x64(True), jax.debug_key_reuse(False):
    gradient = jax.grad(run)(jnp.asarray(times))
    tangents = [jax.jvp(run, (times,), (e,))[1] for e in np.eye(4)]
    h = 1e-6
    at = lambda e, k: float(run(jnp.asarray(times + k * h * e)))
    truth = [
      (4 * at(e, 1) - 3 * at(e, 0) - at(e, 2)) / (2 * h) for e in np.eye(4)
    ]
    twice = run(jnp.asarray([1.2, 0.5, 0.2, 0.0, 0.0]))
  np.testing.assert_allclose(gradient, truth, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(tangents, truth, rtol=1e-5, atol=1e-5)
  if not eta:  # another grid has other keys
    np.testing.assert_allclose(twice, run(times), rtol=1e-6)


@pytest.mark.parametrize("order", [2, 4])
def test_no_infinity_appears_on_the_way(order):
  """Operation by operation, with nodes before the first and repeated."""
  clock = jnp.asarray([0.0, 0.4, 0.4, 1.0])
  nodes = multistep.past_nodes(3, order)

  def total(clock, n):
    known, at = jnp.asarray(nodes[n] >= 0), clock[np.maximum(nodes[n], 0)]
    return forms.lagrange(at, clock[n + 1], known) @ jnp.arange(order + 0.0)

  with jax.debug_nans(True), jax.debug_infs(True):
    for n in range(3):
      assert np.isfinite(jax.grad(total)(clock, n)).all()
