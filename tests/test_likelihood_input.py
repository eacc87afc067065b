"""Transformations of log-densities, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import fields, likelihood, paths, samplers, traces
from tests import expect
from tests.truth import mixture

EXACT = traces.exact()
LINEAR = paths.linear()
X = mixture.POINTS.astype("float32")
GRID = np.linspace(0.05, 0.9, 7, dtype="float32")


def _one(x, key, times=GRID, trace=None):
  trace = traces.hutchinson(3) if trace is None else trace
  solve = likelihood.along(samplers.heun(), jnp.asarray(times))
  field = fields.from_velocity(lambda x, t: jnp.sin(x[::-1] * t) + x)
  options = dict(prior=likelihood.normal(1.0), trace=trace)
  return likelihood.log_prob(solve, field, x, key, **options)


def test_one_trace_and_vmap_without_jit_equals_a_jitted_loop():
  def keys():
    return jax.random.split(jax.random.key(0), len(X))

  traced = []

  def counted(*args):
    traced.append(args)
    return _one(*args)

  batch = jax.vmap(_one)(jnp.asarray(X), keys())  # and without jit
  single = jax.jit(counted)
  loop = [single(x, key, GRID) for x, key in zip(X, keys(), strict=True)]
  single(X[0], keys()[0], GRID * np.float32(0.9))
  assert len(traced) == 1
  stacked = jax.tree.map(lambda *rows: np.stack(rows), *loop)
  expect.close(batch, stacked, rtol=2e-4, atol=2e-5)


def test_a_probe_without_spread_says_so():
  run = jax.jit(lambda x, k: _one(x, k, trace=traces.hutchinson(1)))
  found = run(X[0], jax.random.key(0))
  assert np.isinf(found.standard_error) and found.is_finite


def test_non_finite_densities():
  cut = lambda x, t: jnp.where(t > 0.5, jnp.nan, -x)

  def run(x, key, fn=likelihood.log_prob):
    solve = likelihood.along(samplers.euler(), jnp.asarray(GRID))
    field = fields.from_velocity(cut)
    return fn(solve, field, x, key, prior=likelihood.normal(1.0), trace=EXACT)

  assert not jax.jit(run)(X[0], jax.random.key(0)).is_finite
  for fn in (likelihood.log_prob, likelihood.generate):
    said = f"{fn.__name__}: expected a finite"
    expect.error(said, run, jnp.asarray(X[0]), jax.random.key(0), fn)


def test_bad_input():
  def fails(pattern, field=None, solver=None, key=None, fn=likelihood.log_prob):
    def call():
      solve = likelihood.along(solver or samplers.heun(), jnp.asarray(GRID))
      one = jax.random.key(0) if key is None else key
      given = solve, field or mixture.field(LINEAR), jnp.asarray(X[0]), one
      return fn(*given, prior=likelihood.normal(1.0), trace=EXACT)

    expect.error(pattern, call)

  bare = fields.Field(lambda x, t: fields.Estimate(score=x), LINEAR)
  short = fields.from_velocity(lambda x, t: x[:1])
  fails("field: expected velocity .* log_prob needs, got None", field=bare)
  fails("field: .* generate needs, got None", bare, fn=likelihood.generate)
  fails(r"field: expected velocity .* got shape \(1,\)", field=short)
  fails("key: expected a typed key", key=jax.random.PRNGKey(0))
  for solver, needs in (
    (samplers.ddim(), "data"),
    (samplers.euler_maruyama(), "score"),
    (samplers.churn(1.0), "path"),
  ):
    pattern = f"along: expected .* alone, got {solver.name}, which .*{needs}"
    fails(pattern, solver=solver)
  for field, name in (
    (fields.Field(mixture.field(LINEAR).estimate), "path"),
    (fields.Field(lambda x, t: fields.Estimate(x), LINEAR), "score"),
  ):
    said = f"field: expected {name}, which trunc"
    args = field, jnp.ones(2), 0.1, jax.random.key(0)
    expect.error(said, likelihood.truncation, *args, trace=EXACT)


def test_bits():
  found = likelihood.bits_per_dim(-4 * np.log(2.0), 4)
  np.testing.assert_allclose(found, 1.0, rtol=1e-6)
