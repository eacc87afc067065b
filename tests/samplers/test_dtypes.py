"""States in half precision, times of every dtype, strict promotion.

A state of bfloat16 or float16 keeps its dtype and reaches the network in it;
times are float32 or wider, and so is what a step computes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, likelihood, paths, predictions, samplers, traces
from tests import expect
from tests.samplers.menu import DETERMINISTIC, FEW, NORMAL, SOLVERS
from tests.truth import mixture

PATH = mixture.jaxgen_path("vp")
HALF = "bfloat16", "float16"
X = np.array([0.9375, -1.40625])  # the same in every dtype
STATIONARY = {s.name: s for s in (samplers.mala(), samplers.baoab())}


def _field(seen=None, path=PATH):
  """The exact denoiser as a network of x's dtype has it: rounded to that."""

  def predict_fn(x, t):
    if seen is not None:
      seen.add((str(x.dtype), str(t.dtype)))
    wide = x.astype(t.dtype)
    data = mixture.denoise(wide, path.alpha(t), path.sigma(t), jnp)
    return data.astype(x.dtype)

  return fields.from_prediction(predict_fn, path, predictions.data)


def _end(solver, dtype, times, run=samplers.integrate):
  field = NORMAL if solver.name in STATIONARY else _field()
  x = jnp.asarray(X, dtype)
  return run(solver, field, x, times, jax.random.key(3))


def _compare(solver, num_steps, dtypes, tolerance=2.0):
  """With float64 (where noise is drawn, float32: the same draws), one program.

  To a few roundings of the state: those of the network's input and output.
  """
  exact = "float64" if solver.name in DETERMINISTIC else "float32"

  @jax.jit
  def run(times):
    single = times.astype("float32")
    ends = [_end(solver, dtype, single) for dtype in dtypes]
    return ends, _end(solver, exact, times.astype(exact))

  with jax.enable_x64(True):
    with jax.debug_key_reuse(False):
      ends, truth = run(jnp.asarray(_times(num_steps)))
    for dtype, end in zip(dtypes, ends, strict=True):
      assert end.dtype == dtype and end.shape == (2,)
      limit = tolerance * float(jnp.finfo(dtype).eps)
      error = np.abs(np.asarray(end, "float64") - np.asarray(truth))
      assert error.max() < limit * max(1, np.abs(truth).max()), (end, truth)


@functools.cache
def _times(num_steps):
  ratios = np.geomspace(9.0, 0.05, num_steps + 1)
  with jax.enable_x64(True):
    return np.asarray(PATH.time(jnp.asarray(ratios)))


@pytest.mark.parametrize("name", SOLVERS)
def test_half_precision_is_near_float64(name):
  dtypes = HALF if name in FEW else HALF[:1]
  # A level's score is that of noise 1 / sigma times as large: 20 at the end.
  tolerance = 20.0 if "annealed" in name or "corrector" in name else 2.0
  _compare(SOLVERS[name], 32, dtypes, tolerance)


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m", "unipc(3)"])
def test_many_steps_of_half_precision_do_not_stagnate(name):
  _compare(SOLVERS[name], 256, HALF)


@pytest.mark.parametrize("dtype", [*HALF, "float32", "float64"])
@pytest.mark.parametrize("time_dtype", ["float32", "float64"])
def test_dtypes_of_states_and_of_what_the_network_sees(dtype, time_dtype):
  seen = set()
  with jax.enable_x64(True):
    x = jax.ShapeDtypeStruct((2,), dtype)
    times = jax.ShapeDtypeStruct((33,), time_dtype)
    for run, shape in (
      (samplers.integrate, (2,)),
      (samplers.trajectory, (33, 2)),
    ):
      solve = functools.partial(run, samplers.unipc(2), _field(seen))
      end = jax.eval_shape(solve, x, times, jax.random.key(0))
      assert (end.shape, end.dtype) == (shape, jnp.dtype(dtype))
  wide = "float64" if "float64" in (dtype, time_dtype) else "float32"
  assert seen == {(dtype, wide)}


@pytest.mark.parametrize("dtype", ["float32", *HALF])
def test_everything_runs_under_strict_promotion(dtype):
  """Traced: a promotion that strict mode forbids fails there."""
  x = jax.ShapeDtypeStruct((2,), dtype)
  times, key = jnp.asarray(_times(4), "float32"), jax.random.key(0)
  up, prior = times[::-1], likelihood.normal(1.0)

  def density(method, solve, trace):
    return lambda x: method(solve, _field(), x, key, prior=prior, trace=trace)

  adaptive = likelihood.adaptively(0.05, 0.9)
  fixed = likelihood.along(samplers.rk4(), up)
  exact, signs = traces.exact(), traces.hutchinson(2)
  fit = functools.partial(samplers.grids.fitted, _field(), samplers.unipc(2))
  on = fields.on_path(_field(), paths.linear())
  bridge = lambda t: jnp.sqrt(t * (1 - t))
  pair = lambda x, t: (x, x)
  bare = fields.from_interpolant(pair, bridge, PATH)
  net, row = predictions.preconditioned(lambda x, t: x, PATH, 0.5)
  edm = fields.from_prediction(net, PATH, row)
  every = [*SOLVERS.values(), *STATIONARY.values()]
  runs = [lambda x, s=s: _end(s, dtype, times) for s in every]
  runs += [
    lambda x, f=f: samplers.integrate(samplers.heun(), f, x, times, key)
    for f in (on, bare, edm)
  ]
  runs.append(lambda x: samplers.adaptive.integrate(_field(), x, 0.9, 0.05)[0])
  wide = [
    lambda x: fit(jnp.stack([x, x]), 3, key, num_candidates=4),
    lambda x: likelihood.truncation(_field(), x, 0.1, key, trace=exact),
    lambda x: density(likelihood.log_prob, fixed, signs)(x).log_prob,
    lambda x: density(likelihood.generate, adaptive, exact)(x).log_prob,
  ]
  with jax.numpy_dtype_promotion("strict"), jax.debug_key_reuse(False):
    for run in runs:
      assert jax.eval_shape(run, x).dtype == jnp.dtype(dtype)
    for run in wide:
      assert jax.eval_shape(run, x).dtype == jnp.float32
    found = jax.eval_shape(density(likelihood.log_prob, fixed, exact), x)
    assert (found.end.shape, found.end.dtype) == ((2,), jnp.dtype(dtype))


@pytest.mark.parametrize("dtype", HALF)
def test_adaptive_solves_and_densities_in_half_precision(dtype):
  truth = mixture.flow("vp", X, 0.9, 0.05)

  @jax.jit
  def run(x):
    field, key = _field(), jax.random.key(0)
    loose = dict(rtol=1e-3, atol=1e-3)
    x, stats = samplers.adaptive.integrate(field, x, 0.9, 0.05, **loose)
    solve = likelihood.along(samplers.rk4(), jnp.linspace(0.05, 0.9, 33))
    given = dict(prior=likelihood.normal(1.0), trace=traces.exact())
    of = lambda x: likelihood.log_prob(solve, field, x, key, **given)
    half = jnp.asarray(X / 2, dtype)
    return x, stats.succeeded, of(half), of(half.astype("float32"))

  with jax.debug_key_reuse(False):  # neither solve nor trace draws
    x, succeeded, half, single = run(jnp.asarray(X, dtype))
  assert succeeded and x.dtype == dtype and half.end.dtype == dtype
  eps = float(jnp.finfo(dtype).eps)
  wide = np.asarray(x, "float64")
  # Each step rounds the state; by how much in all depends on the processor.
  np.testing.assert_allclose(wide, truth, atol=4 * eps + 5e-3)
  assert half.log_prob.dtype == jnp.float32
  # The derivative of a rounded denoiser, over sigma = .08 at the data's end.
  np.testing.assert_allclose(half.log_prob, single.log_prob, atol=60 * eps)


def test_preconditioned_networks_see_the_dtype_of_x():
  seen = {}

  def net(x, t):
    seen[str(x.dtype)] = x, t
    return x

  predict_fn, _ = predictions.preconditioned(net, paths.edm(), 0.5)
  for dtype in ("float32", *HALF):
    predict_fn(jnp.asarray(X, dtype), jnp.asarray(1.5, "float32"))
    x, t = seen[dtype]
    assert t.dtype == jnp.float32
    eps = float(jnp.finfo(dtype).eps)
    expected = X / np.hypot(0.5, 1.5)  # once rounded
    np.testing.assert_allclose(x.astype("float32"), expected, rtol=eps / 2)
    np.testing.assert_allclose(t, np.log(1.5) / 4, rtol=1e-6)


def _fails(pattern, *arguments):
  expect.error(pattern, samplers.integrate, *arguments, jax.random.key(0))


@pytest.mark.parametrize("dtype", HALF)
def test_times_in_half_precision_are_rejected(dtype):
  line = f"expected dtype float32 or wider, got {dtype}"
  times = jnp.array([0.75, 0.5], dtype)
  for x in (jnp.ones(2), jnp.ones(2, "bfloat16")):
    _fails(f"times: {line}", samplers.euler(), NORMAL, x, times)
  for name in ("start", "end"):
    ends = dict(start=0.9, end=0.1) | {name: jnp.asarray(0.5, dtype)}
    args = samplers.adaptive.integrate, _field(), jnp.ones(2)
    expect.error(f"{name}: {line}", *args, **ends)


def test_tokens_pass_where_no_estimate_is_needed():
  unmask = samplers.Solver(
    "unmask",
    lambda path, times: dict(n=jnp.arange(len(times) - 1)),
    lambda field, key, x, times: (),
    lambda field, key, x, c, memory: (x.at[c["n"]].set(7), memory),
    lambda n: 0,
    needs=(),
  )
  times, x = jnp.linspace(1.0, 0.0, 4), jnp.zeros(5, jnp.int32)
  end = samplers.integrate(unmask, NORMAL, x, times, jax.random.key(0))
  assert end.dtype == jnp.int32
  np.testing.assert_array_equal(end, [7, 7, 7, 0, 0])
  for dtype in ("int32", "complex64"):
    pattern = f"x: expected a float dtype, which heun needs, got {dtype}"
    _fails(pattern, samplers.heun(), NORMAL, x.astype(dtype), times)
