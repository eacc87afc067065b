"""experiments.flow_map and its recipes: times, teachers, calls, rejections."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import flow_map, sample
from experiments.experiment import Trained
from experiments.lib import averages, datasets, samples
from experiments.recipes import diffusion, teachers
from experiments.recipes import flow_maps as recipe
from jaxgen import fields, paths, predictions
from tests import expect
from tests.experiments import scripts

SD = 0.5


def _parts(**changes):
  """(configuration, model, data) of small maps on the plane."""
  config = scripts.small("flow map", "", **changes)
  data = datasets.load(config)
  config = diffusion.resolve(config, data)
  config = recipe.resolve(config)
  return config, recipe.make(config, data), data


@pytest.fixture(scope="module")
def teacher():
  return scripts.first_stage("edm")[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return scripts.trained("flow map", tmp_path_factory.mktemp("map"))[0]


def test_two_times_are_ordered_and_often_at_the_ends():
  config, model, _ = _parts(ends=0.3)
  draw = jax.jit(lambda key: recipe.draw_two(config, model, key, 4000))
  t, s = draw(jax.random.key(0))
  low, high = model.ends
  assert t.shape == s.shape == (4000,) and bool(jnp.all(s <= t))
  np.testing.assert_allclose([low, high], [0.002 / 1.002, 80 / 81], rtol=1e-6)
  np.testing.assert_allclose((t == high).mean(), 0.3, atol=0.03)
  np.testing.assert_allclose((s == low).mean(), 0.3, atol=0.03)
  # Of both inner times, the mean log ratio is that of the settings.
  inner = (t < high) & (s > low)
  ratios = jnp.log(model.path.ratio(jnp.stack([t, s])[:, inner]))
  np.testing.assert_allclose(ratios.mean(), config.level_mean, atol=0.1)
  assert np.any(draw(jax.random.key(1))[0] != t)
  config = dataclasses.replace(config, method="scm")
  _, s = recipe.draw_two(config, model, jax.random.key(0), 5)
  np.testing.assert_array_equal(s, jnp.full(5, low))


def test_positions_of_states_are_ordered_and_often_at_the_ends():
  config, _, _ = _parts(ends=0.5)
  draw = jax.jit(lambda key: teachers.draw_pairs(config, key, 4000, 6))
  i, j = np.asarray(draw(jax.random.key(0))).T
  assert np.all((0 <= i) & (i < j) & (j <= 5))
  # Those drawn are uniform: i on 0..4, and j on the rest, 5 with 1 / (5 - i).
  np.testing.assert_allclose((i == 0).mean(), 0.5 + 0.5 / 5, atol=0.03)
  np.testing.assert_allclose((j[i == 0] == 5).mean(), 0.6, atol=0.04)
  assert set(i) == set(range(5)) and set(j) == set(range(1, 6))


def test_settings_of_the_method_where_they_are_none():
  of = lambda **changes: recipe.resolve(
    scripts.small("flow map", "", teacher="t", **changes)
  )
  three = lambda config: (config.instant, config.scale, config.solver)
  found = {
    method: three(of(method=method))
    for method in ("meanflow", "shortcut", "scm", "consistency", "pairs")
  }
  assert found == dict(
    meanflow=(0.5, "adaptive", "jump_map"),
    shortcut=(0.5, "one", "jump_map"),
    scm=(0.0, "normalised", "renoised"),
    consistency=(0.0, "huber", "renoised"),
    pairs=(0.0, "one", "jump_map"),
  )
  given = of(method="scm", instant=0.2, scale="one", solver="jump_map")
  assert three(given) == (0.2, "one", "jump_map")


def test_states_of_a_teacher_are_its_samples_of_the_same_noise(teacher):
  config, model, data = _parts(
    method="trajectories", teacher=teacher, num_pairs=7, teacher_steps=64
  )
  field = teachers.read(config, data, model.path)
  key = jax.random.key(3)
  states, labels = teachers.trajectories(config, model, field, 0, key)
  times = teachers.state_times(config, model)
  assert states.shape == (7, 65, 2) and times.shape == (65,) and labels is None
  # The teacher itself, on its own path, by another solver.
  asked = sample.Config(solver="rk4", sample_steps=64)
  ex = samples.read(teacher, asked)
  starts, ends = samples.pairs(ex)(key, None, 7)
  np.testing.assert_allclose(states[:, 0], starts / 81, rtol=1e-5)
  last = states[:, -1] * 1.002
  assert np.abs(last - ends).max() < 0.02 * ends.std()
  # pairs: the first and the last of them.
  config = dataclasses.replace(config, method="pairs")
  two, _ = teachers.trajectories(config, model, field, 0, key)
  np.testing.assert_array_equal(two, states[:, [0, -1]])
  np.testing.assert_array_equal(
    teachers.state_times(config, model), times[jnp.array([0, -1])]
  )


def test_a_sample_is_the_state_at_the_last_time_over_alpha(run):
  ex = samples.read(run, sample.Config(sample_steps=1))
  assert ex.num_calls == 1
  params, extras = averages.load(ex)
  states, found = jax.jit(ex.sample)(params, extras, jax.random.key(0), None)
  _, model, _ = _parts()
  low, high = model.ends
  noise_key = jax.random.split(jax.random.key(0))[0]
  noise = jax.random.normal(noise_key, (2,))
  start = noise * high  # sigma(t) = t
  u = jax.jit(lambda x: model.map(params["model"], None)(x, high, low))
  end = start + (low - high) * u(start)
  np.testing.assert_allclose(states, jnp.stack([start, end]), atol=1e-6)
  np.testing.assert_allclose(found, end / (1 - low), atol=1e-6)
  assert found.shape == (2,) and found.dtype == jnp.float32


@pytest.mark.parametrize("solver", ["jump_map", "renoised"])
def test_a_run_is_sampled_with_any_number_of_calls(run, solver):
  asked = sample.Config(number=5, sample_steps=3, solver=solver, name=solver)
  drawn = sample.run(str(run), asked)
  assert drawn.shape == (5, 2) and np.all(np.isfinite(drawn))
  assert samples.read(run, asked).num_calls == 3


METHODS = "meanflow improved scm lagrangian shortcut consistency".split()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("taught", [False, True])
def test_losses_vanish_on_the_map_of_a_gaussian(method, taught):
  """One data point has the flow x_t = (t / t0) x_t0 on the linear path."""
  config, model, _ = _parts(
    method=method, scale="one", instant=0.5, stages=4, num_steps=30
  )
  # Data 0: the velocity is x_t / t = noise, also the conditional one, so that
  # both kinds of teacher agree, and u(x, t, s) = x / t.
  exact = model._replace(shape=(2,))
  field = fields.from_prediction(
    lambda x, t: x / t, paths.linear(), predictions.velocity
  )

  class Exact(recipe.Model):
    def map(self, params, label, **how):
      return lambda x, t, s: params * x / t

  exact = Exact(*exact)
  teacher = lambda: (lambda label: field) if taught else None
  loss_fn = flow_map.make_loss(config, exact, 0, teacher)
  batch = jnp.zeros((8, 2)), None

  def loss(scale):
    found = loss_fn({"model": scale}, {}, jax.random.key(0), batch, 20)
    return found[0], found[1][0]

  (value, metrics), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(1.0)
  wrong, _ = jax.jit(loss)(1.2)
  assert set(metrics) == {"error", "map_error"}
  np.testing.assert_allclose([value, slope], 0, atol=1e-5)
  assert wrong > 1e-2


def _polynomial(x, t, s):  # no flow's map: every time is seen
  return x * t + 2 * s


def _problem(method, number, *gap, **changes):
  """Value and target of one example, at t = .8 and s = .2."""
  config = scripts.small("flow map", "", method=method, **changes)
  data, noise = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0])
  at = recipe.drawn(paths.linear(), data, noise, jnp.float32(0.8), 0.2, *gap)
  problem = flow_map.make_problem(config)
  return at, jax.jit(lambda: problem(_polynomial, at, None, number))()


def test_a_shortcut_has_two_equal_parts():
  at, (value, target) = _problem("shortcut", 0)
  jump = lambda x, t, s: x + (s - t) * _polynomial(x, t, s)
  end = jump(jump(at.x_t, 0.8, 0.5), 0.5, 0.2)
  np.testing.assert_allclose(value, _polynomial(at.x_t, 0.8, 0.2), rtol=1e-5)
  np.testing.assert_allclose(target, (end - at.x_t) / -0.6, rtol=1e-5)


def test_consistency_goes_on_from_its_second_time():
  part, r = 1 / 8, 0.8 - 0.6 / 8
  at, (value, target) = _problem("consistency", 0, r, 0.8 - r)
  x_r = at.point(r)
  end = x_r + (0.2 - r) * _polynomial(x_r, r, 0.2)
  expected = _polynomial(at.x_t, 0.8, 0.2), (end - at.x_t) / -0.6
  np.testing.assert_allclose(value * part, expected[0], rtol=1e-5)
  np.testing.assert_allclose(target * part, expected[1], rtol=1e-4)


def test_a_squared_error_is_weighted_by_its_scale():
  """Of two examples, one with s = t, the loss is the mean of q w(q)."""
  config, model, _ = _parts(method="shortcut", scale="huber")

  class Wrong(recipe.Model):
    def map(self, params, label, **how):
      return _polynomial

  loss_fn = flow_map.make_loss(config, Wrong(*model), 0, lambda: None)
  batch = jnp.ones((2, 2)), None
  found, (metrics, _) = jax.jit(
    lambda: loss_fn({"model": ()}, {}, jax.random.key(0), batch, 0)
  )()
  errors = np.array([metrics["error"], metrics["map_error"]])
  expected = np.mean(errors / np.sqrt(errors + 1e-3))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_map_of_a_teacher_has_no_error(teacher):
  config, model, _ = _parts(teacher=teacher)
  field = fields.from_prediction(
    lambda x, t: x / t, paths.linear(), predictions.velocity
  )

  class Exact(recipe.Model):
    def map(self, params, label, **how):
      return lambda x, t, s: x / t

  starts = np.random.RandomState(0).randn(6, 1, 2).astype(np.float32)
  found = Trained({"model": ()}, {}, {}, starts, starts[:, 0])
  times, off = teachers.errors(
    config, Exact(*model), lambda label: field, found, None
  )
  assert times.shape == (12,) and off.shape == (12, 12)
  upper = np.triu(np.ones((12, 12), bool))
  assert np.all(np.isnan(off[~upper]))
  # Heun is exact for x / t but for rounding: x_t is linear in t.
  assert np.nanmax(off) < 1e-5
  _, off = teachers.errors(
    config, Exact(*model), lambda label: _still, found, None
  )
  # A flow that stands still: |X - x| = |x| (t - s) / t.
  size = np.sqrt((starts**2).mean())
  expected = size * (times[3] - times[9]) / times[3]
  np.testing.assert_allclose(off[3, 9], expected, rtol=1e-5)


_still = fields.from_prediction(
  lambda x, t: 0 * x, paths.linear(), predictions.velocity
)


def test_teachers_that_do_not_fit(teacher, run):
  config, model, data = _parts(teacher=str(run), method="scm")
  with expect_line("teacher, data: expected a run on moons"):
    other = dataclasses.replace(config, data="moons")
    teachers.read(other, data, model.path)
  with expect_line(r"teacher, data: expected a run on examples \[3\]"):
    teachers.read(config, data._replace(shape=(3,)), model.path)
  gan = scripts.first_stage("gan")[0]
  config = dataclasses.replace(config, teacher=gan, data="ring")
  with expect_line("teacher: expected a run with a flow from noise"):
    teachers.read(config, data, model.path)


def test_a_teacher_that_has_not_learned_the_null_label():
  run = scripts.first_stage("matched")[0]  # of digits
  config = flow_map.Config("", label_dropout=0.5, teacher=run)
  with expect_line("label_dropout, teacher: expected 0"):
    teachers.read(config, datasets.load(config), paths.linear())


def expect_line(message):
  return pytest.raises(ValueError, match=f"^{message}")


@pytest.mark.parametrize("name", ["flow map", "matched"])
def test_the_mean_noise_level_is_a_number(name):
  config = scripts.small(name, "", teacher="none", level_mean=float("nan"))
  experiment = scripts.SCRIPTS[name].module.experiment
  expect.error("^level_mean: expected finite, got nan$", experiment, config)


def test_a_field_is_not_sampled_by_jumps(teacher):
  asked = sample.Config(solver="jump_map")
  expect.error("solver: expected one of euler", samples.read, teacher, asked)
