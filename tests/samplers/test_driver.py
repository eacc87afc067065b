"""The driver: transformations, keys, counts, memory, for every solver."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxgen import fields, paths, samplers
from tests import expect
from tests.samplers import menu
from tests.samplers.menu import DETERMINISTIC, FEW, SOLVERS
from tests.truth import mixture, orders

every_solver = pytest.mark.parametrize("name", SOLVERS)
each_kind = pytest.mark.parametrize("name", FEW)
PATH = mixture.jaxgen_path("vp")
X = np.random.RandomState(0).randn(8, 2).astype("float32")


@functools.cache
def _times(num_steps=5):
  with jax.ensure_compile_time_eval():  # the first call may be inside jit
    return np.asarray(samplers.grids.log_snr(PATH, num_steps, 0.05, 10.0))


def _sample(name, x, key, times=None):
  times = _times() if times is None else times
  field = mixture.field(PATH)
  return samplers.integrate(SOLVERS[name], field, x, jnp.asarray(times), key)


@functools.cache
def _counted(name):
  """One jitted sampler a solver, which fails if it is traced twice, and the
  list of the times of its evaluations, complete after jax.effects_barrier().
  """
  chex.clear_trace_counter()
  field, calls = menu.counted(mixture.field(PATH))
  solve = functools.partial(samplers.integrate, SOLVERS[name], field)
  once = lambda x, key, times: solve(x, jnp.asarray(times), key)
  return jax.jit(chex.assert_max_traces(once, n=1)), calls


def _single(name):
  run, _ = _counted(name)
  return lambda x, key, times=None: run(
    x, key, _times() if times is None else times
  )


@functools.cache
def _loop(name):
  keys = jax.random.split(jax.random.key(4), len(X))
  rows = [_single(name)(x, key) for x, key in zip(X, keys, strict=True)]
  return np.stack(rows)


def _batch(name, size):
  keys = jax.random.split(jax.random.key(4), len(X))[:size]
  run = jax.vmap(functools.partial(_sample, name))
  return np.asarray(jax.jit(run)(X[:size], keys))


class Variants(chex.TestCase):
  """A solver is the same function with and without jit and device."""

  @chex.all_variants(with_pmap=False)
  @parameterized.parameters(*FEW)
  def test_integrate(self, name):
    # The key is made inside: chex's devices take arrays only.
    @self.variant
    def run(x, times, seed):
      x, times = jnp.asarray(x), jnp.asarray(times)
      return _sample(name, x, jax.random.key(seed), times)

    value = run(jnp.asarray(X[0]), jnp.asarray(_times()), jnp.uint32(6))
    expected = _single(name)(X[0], jax.random.key(6))
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-6)


@every_solver
def test_one_trace_and_vmap_equals_a_loop(name):
  np.testing.assert_allclose(_batch(name, 8), _loop(name), rtol=2e-5, atol=2e-6)
  # Any values of times, in the same trace.
  other = _single(name)(X[0], jax.random.key(4), 0.9 * _times())
  assert np.isfinite(other).all()


@each_kind
def test_sample_does_not_change_with_the_batch(name):
  for size in (1, 3):
    expect.close(_batch(name, size), _loop(name)[:size], rtol=2e-5, atol=2e-6)


@each_kind
def test_trajectory_begins_at_x_and_ends_as_integrate(name):
  field, times = mixture.field(PATH), jnp.asarray(_times())
  run = functools.partial(samplers.trajectory, SOLVERS[name], field)
  states = jax.jit(run)(X[0], times, jax.random.key(8))
  assert states.shape == (6, 2)
  np.testing.assert_array_equal(states[0], X[0])
  expected = _single(name)(X[0], jax.random.key(8))
  np.testing.assert_allclose(states[-1], expected, rtol=2e-5, atol=2e-6)


@every_solver
def test_keys_matter_only_to_the_stochastic(name):
  one, other = (
    np.asarray(_single(name)(X[0], jax.random.key(seed))) for seed in (1, 2)
  )
  again = np.asarray(_single(name)(X[0], jax.random.key(1)))
  np.testing.assert_array_equal(one, again)
  if name in DETERMINISTIC:
    np.testing.assert_array_equal(one, other)
  else:
    assert (np.abs(one - other) > 1e-4).all()


def test_every_step_draws_its_own_noise():
  # No drift: the increments are the draws themselves.
  still = lambda x, t: fields.Estimate(velocity=0 * x, score=0 * x)
  solver = samplers.euler_maruyama(lambda t: 0 * t + 0.5)
  run = functools.partial(samplers.trajectory, solver, fields.Field(still))
  states = jax.jit(run)(X[0], jnp.arange(6.0), jax.random.key(5))
  steps = np.diff(states, axis=0)
  _, step_key = jax.random.split(jax.random.key(5))
  for n, step in enumerate(steps):
    draw = jax.random.normal(jax.random.fold_in(step_key, n), (2,))
    np.testing.assert_allclose(step, draw, rtol=1e-5, atol=1e-6)


@every_solver
def test_num_calls_is_the_number_of_evaluations(name):
  _, calls = _counted(name)
  jax.effects_barrier()
  calls.clear()
  _single(name)(X[0], jax.random.key(0)).block_until_ready()
  jax.effects_barrier()
  assert len(calls) == SOLVERS[name].num_calls(5)
  ends = _times()
  known = {"heun": np.concatenate([ends[:-1], ends[1:]])}
  for single in ("euler", "ddim", "euler_maruyama", "ancestral"):
    known[single] = ends[:-1]
  if name in known:
    np.testing.assert_allclose(sorted(calls), np.sort(known[name]), rtol=1e-6)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_other_kinds(impl):
  """One at a time each sample has its own key; under vmap all have the first's.

  So jaxgen.keys and docs/solvers.md say.
  """
  field, times = mixture.field(PATH), jnp.asarray(_times())
  solver, x = samplers.ancestral(), jnp.asarray(X[0])
  run = lambda key: samplers.integrate(solver, field, x, times, key)
  fold = lambda *n: jnp.stack([jax.random.fold_in(key, i) for i in n])
  with jax.debug_key_reuse(False):
    key = jax.random.key(0, impl=impl)
    single, batch = jax.jit(run), jax.jit(jax.vmap(run))
    alone = np.stack([single(jax.random.fold_in(key, n)) for n in (1, 2)])
    one_by_one = jax.jit(lambda keys: jax.lax.map(run, keys))(fold(1, 2))
    one, other = batch(fold(1, 2)), batch(fold(1, 3))
  np.testing.assert_allclose(one_by_one, alone, rtol=2e-5, atol=2e-6)
  np.testing.assert_allclose(one[0], alone[0], rtol=2e-5, atol=2e-6)
  np.testing.assert_array_equal(one[1], other[1])  # of keys 2 and 3
  assert np.abs(alone[1] - np.stack([alone[0], one[1]])).min() > 1e-4


@each_kind
def test_nothing_leaks(name):
  with jax.checking_leaks():
    value = jax.jit(functools.partial(_sample, name))(X[0], jax.random.key(0))
  assert np.isfinite(value).all()


@functools.cache
def _stochastic():
  """All of them on any path in one program: (path's index, x, times, key)."""
  some = {n: s for n, s in SOLVERS.items() if n not in DETERMINISTIC}

  @jax.jit
  def run(index, x, times, key):
    path = orders.one_path(index)
    field = mixture.field(path)
    x = x * jnp.hypot(path.alpha(times[0]), path.sigma(times[0]))
    keys = jax.random.split(key, len(some))
    return {
      name: samplers.integrate(solver, field, x, times, key)
      for (name, solver), key in zip(some.items(), keys, strict=True)
    }

  return run


@pytest.mark.parametrize("path_name", mixture.NAMES)
def test_the_stochastic_are_finite_in_float32_on_the_whole_range(path_name):
  """Those without noise are compared with float64 in test_orders.py."""
  path, index = mixture.jaxgen_path(path_name), mixture.NAMES.index(path_name)
  for grid in (samplers.grids.karras, samplers.grids.log_snr):
    times = grid(path, 16, 0.002, 80.0)
    assert times.dtype == jnp.float32
    found = _stochastic()(index, X[0], times, jax.random.key(3))
    for name, value in found.items():
      assert value.dtype == jnp.float32
      assert np.isfinite(value).all(), (path_name, name)
      # Sixteen levels are far too few for annealing.
      most = 80.0 if name == "annealed" else 5.0
      assert np.abs(value).max() < most, (path_name, name, value)


def _temporaries(name, num_steps, run=samplers.integrate):
  """Bytes of temporaries of the compiled program, and of its plan."""
  denoise = lambda x, t: fields.Estimate(-x, -x, 0.5 * x, x)
  field, solver = fields.Field(denoise, PATH), SOLVERS[name]
  times = jax.ShapeDtypeStruct((num_steps + 1,), jnp.float32)
  x = jax.ShapeDtypeStruct((1024,), jnp.float32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  fn = lambda x, times, key: run(solver, field, x, times, key)
  compiled = jax.jit(fn).lower(x, times, key).compile()
  plan = jax.eval_shape(lambda times: solver.plan(PATH, times), times)
  plan_bytes = sum(v.size * v.dtype.itemsize for v in jax.tree.leaves(plan))
  return compiled.memory_analysis().temp_size_in_bytes, plan_bytes


@each_kind
def test_temporaries_grow_by_the_plan_alone(name):
  # Beside the plan: its intermediates (12 points of quadrature and 4 nodes).
  # Keeping the states would be 4096 bytes a step.
  few, few_plan = _temporaries(name, 16)
  many, many_plan = _temporaries(name, 256)
  growth = many - few
  assert growth <= many_plan - few_plan + 512 * 240


def test_kept_states_would_show_in_the_temporaries():
  last = lambda *arguments: samplers.trajectory(*arguments)[-1]
  few, many = (_temporaries("euler", n, last)[0] for n in (16, 256))
  assert many - few >= 4096 * 240


def test_transport_map_is_exact_in_any_number_of_steps():
  transport = lambda x: jnp.tanh(x) * 2 + 0.3
  start = jnp.asarray(X[0])
  field = fields.from_transport_map(transport, start)
  for num_steps in (1, 4, 16):
    times, key = jnp.linspace(0.0, 1.0, num_steps + 1), jax.random.key(0)
    end = samplers.integrate(SOLVERS["euler"], field, start, times, key)
    np.testing.assert_allclose(end, np.tanh(X[0]) * 2 + 0.3, rtol=1e-5)


def test_a_path_of_which_one_scale_is_learned():
  """With no data in it, x_t is of size sigma, whatever its slope."""
  times = jnp.array([1.0, 0.25])

  @jax.jit
  def run(slope):
    sigma, time = lambda t: slope * t, lambda ratio: ratio / slope
    path = paths.Path(jnp.ones_like, sigma, time)
    nothing = lambda x, t: fields.Estimate(data=0 * x)
    field, key = fields.Field(nothing, path), jax.random.key(0)
    return samplers.integrate(samplers.ddim(), field, jnp.ones(2), times, key)

  np.testing.assert_allclose(run(3.0), 0.25, rtol=1e-6)
