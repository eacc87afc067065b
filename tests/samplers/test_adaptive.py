"""Adaptive solves against SciPy's flow, their counts, and gradients."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, samplers
from tests import expect
from tests.samplers import menu
from tests.truth import mixture

PATH = mixture.jaxgen_path("vp")
ENDS = {name: mixture.time("vp", r) for name, r in (("low", 0.05), ("high", 9))}
START = np.array([0.9, -1.4])
solvers = pytest.mark.parametrize(
  "solver", [None, diffrax.Dopri8()], ids=["Tsit5", "Dopri8"]
)


def _truth(encode=False):
  ends = ENDS["low"], ENDS["high"]
  return mixture.flow("vp", START, *(ends if encode else ends[::-1]))


def _run(x, start=ENDS["high"], end=ENDS["low"], field=None, **settings):
  field = mixture.field(PATH) if field is None else field
  return samplers.adaptive.integrate(field, x, start, end, **settings)


@solvers
def test_reaches_scipys_flow_in_both_directions(solver):
  with jax.enable_x64(True):
    run = jax.jit(functools.partial(_run, solver=solver, rtol=1e-9, atol=1e-9))
    x = jnp.asarray(START)
    down, stats = run(x, ENDS["high"], ENDS["low"])
    up, other = run(x, ENDS["low"], ENDS["high"])
  np.testing.assert_allclose(down, _truth(), atol=3e-8)
  np.testing.assert_allclose(up, _truth(encode=True), atol=3e-8)
  assert stats.succeeded and other.succeeded
  assert int(other.num_steps) != int(stats.num_steps)


@functools.cache
def _counted():
  """The jitted solve, the times of its evaluations as they come, its traces."""
  field, calls = menu.counted(mixture.field(PATH))
  traced = []

  def run(x):
    traced.append(x.shape)
    return _run(x, field=field)

  return jax.jit(run), calls, traced


def test_float32_and_counts():
  run, calls, _ = _counted()
  calls.clear()
  x, stats = jax.block_until_ready(run(jnp.asarray(START, "float32")))
  jax.effects_barrier()
  assert x.dtype == jnp.float32 and stats.succeeded
  np.testing.assert_allclose(x, _truth(), atol=2e-4)
  assert int(stats.num_calls) == len(calls)
  assert stats.num_steps == stats.num_accepted + stats.num_rejected
  assert int(stats.num_accepted) > 5 and int(stats.num_rejected) > 0


def test_vmap_equals_a_loop_with_counts_of_its_own():
  xs = jnp.asarray(mixture.POINTS, "float32") * 3
  batch, stats = jax.jit(jax.vmap(_run))(xs)
  loop = [_counted()[0](x) for x in xs]
  np.testing.assert_allclose(batch, jnp.stack([x for x, _ in loop]), atol=1e-4)
  steps = [int(s.num_steps) for _, s in loop]
  np.testing.assert_allclose(stats.num_steps, steps, atol=1)
  assert len(_counted()[2]) == 1


@pytest.mark.parametrize("fault", ["max_steps", "nan"])
def test_failure_is_flagged_and_nan(fault):
  if fault == "max_steps":
    field, settings = mixture.field(PATH), dict(max_steps=3)
  else:
    cut = lambda x, t: jnp.where(t < 0.5, jnp.nan, -x)
    field, settings = fields.from_velocity(cut), dict(max_steps=50)
  run = jax.jit(functools.partial(_run, field=field, **settings))
  x, stats = run(jnp.asarray(START, "float32"))
  assert not stats.succeeded and np.isnan(x).all()


@pytest.mark.parametrize(
  "settings, pattern",
  [
    (dict(rtol=0.0), "adaptive.integrate: expected rtol > 0, got 0.0"),
    (dict(atol=-1.0), "adaptive.integrate: expected atol > 0"),
    (dict(max_steps=0), "adaptive.integrate: expected max_steps > 0"),
    (dict(solver=diffrax.Euler()), "expected solver an explicit .*got Euler"),
    (dict(solver=diffrax.Kvaerno3()), "expected solver an explicit"),
    (
      dict(field=fields.Field(lambda x, t: fields.Estimate(score=x))),
      r"field: expected velocity of shape \(2,\), which adaptive.integrate"
      " needs, got None",
    ),
    (
      dict(field=fields.from_velocity(lambda x, t: x[:1])),
      r"field: expected velocity .* got shape \(1,\)",
    ),
  ],
)
def test_bad_input(settings, pattern):
  expect.error(pattern, _run, jnp.ones(2), **settings)


# Gradients to the start and to a parameter that the field closes over.

ADJOINTS = {
  "recursive": None,
  "backsolve": diffrax.BacksolveAdjoint(),
  "forward": diffrax.ForwardMode(),
}


def _loss(solve, scale):
  velocity = lambda x, t: jnp.sin(scale * x[::-1] + t) - scale * x * t
  field = fields.from_velocity(velocity)
  return solve(field, scale * jnp.asarray(START)) @ jnp.array([1.0, -0.5])


def _derivatives(solve, forward=False):
  """Of the loss: by its tangent (or gradient), and by finite differences."""
  loss = functools.partial(_loss, solve)
  both = jax.value_and_grad(loss)
  if forward:
    both = lambda scale: jax.jvp(loss, (scale,), (jnp.ones(()),))
  run, scale, h = jax.jit(both), 0.9, 1e-5
  above, below = (run(jnp.asarray(scale + d))[0] for d in (h, -h))
  return float(run(jnp.asarray(scale))[1]), float(above - below) / (2 * h)


@pytest.mark.parametrize("name", ADJOINTS)
def test_gradients_of_adaptive_solves(name):
  def solve(field, x):
    settings = dict(rtol=1e-9, atol=1e-9, adjoint=ADJOINTS[name])
    return _run(x, field=field, **settings)[0]

  with jax.enable_x64(True):
    value, difference = _derivatives(solve, forward=name == "forward")
  assert abs(difference) > 1e-2
  np.testing.assert_allclose(value, difference, rtol=1e-5)


def _fixed(solver, field, x, num_steps=20):
  times = jnp.linspace(ENDS["high"], ENDS["low"], num_steps + 1)
  times = times.astype(x.dtype)
  return samplers.integrate(solver, field, x, times, jax.random.key(0))


def test_gradients_with_remat():
  solver = samplers.remat(samplers.rk4())
  with jax.enable_x64(True):
    value, difference = _derivatives(functools.partial(_fixed, solver))
  assert abs(difference) > 1e-2
  np.testing.assert_allclose(value, difference, rtol=1e-7)


def _temporaries(solver):
  """Bytes held by the compiled gradient of 64 steps through a wide network."""

  def loss(weight, x):
    field = fields.from_velocity(lambda x, t: jnp.tanh(x @ weight) @ weight.T)
    return _fixed(solver, field, x, num_steps=64).sum()

  like = [jax.ShapeDtypeStruct(s, "float32") for s in ((8, 1024), (8,))]
  compiled = jax.jit(jax.grad(loss)).lower(*like).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_remat_lowers_the_temporaries_of_the_gradient():
  solver = samplers.rk4()
  plain, remat = _temporaries(solver), _temporaries(samplers.remat(solver))
  # Hidden layers, 4 kB an evaluation, are not kept for all 64 steps.
  kept = 64 * solver.num_calls(1) * 4096
  assert plain > kept
  assert plain - remat > 0.9 * kept
