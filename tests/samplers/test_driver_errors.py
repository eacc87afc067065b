"""Bad input to the driver and the solvers: one clear line each."""

import re

import jax
import jax.numpy as jnp
import pytest

from jaxgen import fields, predictions, samplers
from tests import expect
from tests.samplers.menu import SOLVERS
from tests.truth import mixture

PATH = mixture.jaxgen_path("linear")
NAMES = ("euler", "heun", "ddim", "euler_maruyama", "ancestral")


def _run(solver=None, field=None, x=None, times=None, key=None):
  return samplers.integrate(
    samplers.heun() if solver is None else solver,
    mixture.field(PATH) if field is None else field,
    jnp.ones(2) if x is None else x,
    jnp.array([0.9, 0.5, 0.1]) if times is None else times,
    jax.random.key(0) if key is None else key,
  )


# Solvers that need an estimate.
LACKING = {
  "velocity": (
    samplers.euler(),
    samplers.heun(),
    samplers.churn(1.0),
    samplers.rk4(),
    samplers.adams_bashforth(4),
  ),
  "data": (
    samplers.ddim(),
    samplers.ancestral(),
    samplers.dpmpp_3m(),
    samplers.unipc(3),
    samplers.dpmpp_sde(),
    samplers.predictor_corrector(samplers.ddim()),
  ),
  "noise": (
    samplers.dpm_solver_3s(),
    samplers.deis(2),
    samplers.unipc(2, noise=True),
    samplers.seeds_2(),
  ),
  "score": (
    samplers.euler_maruyama(),
    samplers.predictor_corrector(samplers.ddim()),
    samplers.annealed(),
    samplers.baoab(),
  ),
  "log_prob": (samplers.mala(),),
}


@pytest.mark.parametrize(
  "solver, estimate",
  [(solver, name) for name, found in LACKING.items() for solver in found],
  ids=lambda value: getattr(value, "name", value),
)
def test_field_lacks_an_estimate(solver, estimate):
  full = mixture.field(PATH)
  lacking = lambda x, t: full(x, t)._replace(**{estimate: None})
  name = re.escape(solver.name)
  pattern = f"field: expected {estimate}, which {name} needs, got None"
  expect.error(pattern, _run, solver=solver, field=fields.Field(lacking, PATH))


@pytest.mark.parametrize(
  "solver",
  [
    samplers.ddim(),
    samplers.euler_maruyama(),
    samplers.ancestral(),
    samplers.churn(1.0),
    samplers.dpm_solver_2s(),
    samplers.deis(3),
    samplers.unipc(2),
    samplers.seeds_2(),
    samplers.annealed(),
  ],
  ids=lambda solver: solver.name,
)
def test_field_lacks_a_path(solver):
  bare = fields.Field(mixture.field(PATH).estimate)
  name = re.escape(solver.name)
  pattern = f"field: expected path, which {name} needs, got None"
  expect.error(pattern, _run, solver=solver, field=bare)


def test_solvers_without_a_path_run_on_a_bare_velocity():
  field = fields.from_velocity(lambda x, t: -x)
  for name in ("euler", "heun", "midpoint", "rk4", "adams_bashforth(3)"):
    assert jnp.isfinite(_run(solver=SOLVERS[name], field=field)).all()


@pytest.mark.parametrize("times", [[0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
@pytest.mark.parametrize(
  "solver",
  [
    samplers.ancestral(),
    samplers.churn(1.0),
    samplers.ddim(0.5),
    samplers.dpmpp_sde(),
    samplers.dpmpp_2m_sde(),
    samplers.seeds_2(),
  ],
  ids=lambda solver: solver.name,
)
def test_times_must_decrease(solver, times):
  times = jnp.array(times)
  name = re.escape(solver.name)
  pattern = f"times: expected decreasing times, which {name} needs"
  expect.error(pattern, _run, solver=solver, times=times)
  closed_over = jax.jit(lambda x: _run(solver=solver, x=x, times=times))
  expect.error(pattern, closed_over, jnp.ones(2))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 1)])
def test_times_of_another_rank_or_length(shape):
  expect.error(r"times: expected shape \[N \+ 1\]", _run, times=jnp.ones(shape))


def test_a_bare_velocity_is_told_what_gives_the_rest():
  """Where a user of dpmpp_2m reads how to go on."""
  bare = fields.from_velocity(lambda x, t: -x)
  for solver, name in (
    (samplers.dpmpp_2m(), "data"),
    (samplers.euler_maruyama(jnp.ones_like), "score"),
  ):
    line = f"field: expected {name}, which {solver.name} needs, got None"
    cure = "; fields.from_prediction on a Gaussian path gives it$"
    expect.error(re.escape(line) + cure, _run, solver=solver, field=bare)


@pytest.mark.parametrize("where", ["integrate", "adaptive", "fitted"])
def test_a_batch_that_the_network_cannot_take(where):
  """The network's own error, and a last line that says what x is."""
  net = lambda x, t: jnp.ones((2, 2)) @ x
  field = fields.from_prediction(net, PATH, predictions.data)
  batch, key = jnp.ones((5, 2)), jax.random.key(0)
  run = {
    "integrate": lambda: _run(field=field, x=batch),
    "adaptive": lambda: samplers.adaptive.integrate(field, batch, 0.9, 0.1),
    "fitted": lambda: samplers.grids.fitted(
      field, samplers.unipc(2), batch[None].repeat(2, 0), 2, key
    ),
  }[where]
  with pytest.raises(TypeError, match="dot_general") as error:
    run()
  line = "field: called on one example x, here of shape (5, 2); a batch runs"
  assert error.value.__notes__[-1] == f"{line} under jax.vmap"


def test_keys():
  expect.error("key: expected a typed key", _run, key=jax.random.PRNGKey(0))
  several = jax.random.split(jax.random.key(0), 2)
  expect.error("key: expected one key", _run, key=several)


@pytest.mark.parametrize("shape", [(3,), (), (2, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_estimate_of_another_shape(name, shape):
  wrong = fields.Estimate(*[jnp.zeros(shape)] * 4)
  field = fields.Field(lambda x, t: wrong, PATH)
  expect.error(
    r"field: expected \w+ of shape \(2,\), got \(",
    _run,
    solver=getattr(samplers, name)(),
    field=field,
  )
