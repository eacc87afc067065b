"""Guidance of a run: --guidance, --guidance-interval, --guide, --label none."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import edm, evaluate, sample
from experiments.lib import averages, samples
from tests import expect
from tests.experiments import scripts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  directory = tmp_path_factory.mktemp("guided") / "digits"
  return scripts.trained("edm images", directory, num_steps=3)[0]


@pytest.fixture(scope="module")
def null_run(tmp_path_factory):
  """A run that never sees a label, though its data have labels."""
  directory = tmp_path_factory.mktemp("guided") / "null"
  changes = dict(num_steps=3, label_dropout=1.0)
  return scripts.trained("edm images", directory, **changes)[0]


def drawn(directory, **settings):
  config = sample.Config(number=4, name="found", **settings)
  return sample.run(str(directory), config)


@pytest.fixture(scope="module")
def plain(run):
  """Samples of the run itself."""
  return drawn(run)


def test_samples_follow_the_combined_field(run):
  """Heun's steps by hand, with the field of each label and of none."""
  weight, (low, high) = 2.5, (0.05, 10.0)
  ex = samples.read(run)
  trained = averages.load(ex)
  marks = np.asarray(ex.times.marks)
  one, null = (
    jax.jit(lambda x, t, label=label: ex.field(*trained, label)(x, t))
    for label in (jnp.int32(3), None)
  )
  path = ex.field(*trained, None).path

  def velocity(x, t):
    at = one(x, t).velocity
    if not low < float(path.ratio(t)) <= high:
      return at
    other = null(x, t).velocity
    return other + weight * (at - other)

  key = jax.random.fold_in(jax.random.key(0), 1)
  start_key, _ = jax.random.split(key)
  times = path.time(jnp.asarray(marks))
  x = path.sigma(times[0]) * jax.random.normal(start_key, ex.data.shape)
  for now, later in itertools.pairwise(times):
    first = velocity(x, now)
    second = velocity(x + (later - now) * first, later)
    x = x + (later - now) * (first + second) / 2
  expected = one(x, times[-1]).data  # the last ratio is below the interval
  found = drawn(run, label=3, guidance=weight, guidance_interval=(low, high))
  np.testing.assert_allclose(found[1], expected, rtol=2e-4, atol=2e-4)
  plain = drawn(run, label=3)
  assert np.abs(found - plain).max() > 1e-3


def test_weight_one_is_the_run_and_weight_zero_the_null_label(run, plain):
  np.testing.assert_array_equal(drawn(run, guidance=1.0), plain)
  null = drawn(run, guidance=0.0)
  np.testing.assert_array_equal(null, drawn(run, label="none"))
  stored = scripts.stored(run / "found.npz")
  assert [*stored] == ["samples"]
  assert np.abs(null - plain).max() > 1e-5


def test_a_run_is_its_own_guide(run, plain):
  found = drawn(run, guidance=3.0, guide=str(run))
  np.testing.assert_allclose(found, plain, rtol=1e-3, atol=1e-3)


def test_weight_zero_samples_the_guide(run, plain, tmp_path):
  """Autoguidance by another run: all of it at weight 0, moved to the path."""
  how = dict(num_steps=3, seed=1, label_dropout=1.0, width=16)
  other, _ = scripts.trained("edm images", tmp_path / "other", **how)
  found = drawn(run, guidance=0.0, guide=str(other))
  np.testing.assert_allclose(found, drawn(other), rtol=1e-4, atol=1e-4)
  assert np.abs(found - plain).max() > 0.01


@pytest.mark.parametrize(
  "settings, calls",
  [
    ({}, 7),
    ({"guidance": 0.0}, 7),
    ({"guidance": 2.0}, 14),
    ({"guidance": 2.0, "guidance_interval": (0.0, 100.0)}, 14),
    ({"guidance": 2.0, "guidance_interval": (50.0, 80.5)}, 8),
    ({"guidance": 2.0, "guidance_interval": (0.0, 0.0021)}, 9),
    ({"guidance": 2.0, "guidance_interval": (90.0, 100.0)}, 7),
  ],
)
def test_network_calls_are_counted(run, settings, calls):
  """Three steps of Heun's method have six, the final denoising one more; the
  first time occurs once, the last one twice.
  """
  assert samples.read(run, sample.Config(**settings)).num_calls == calls


def test_evaluate_with_the_null_label_has_no_accuracy(run):
  how = dict(number=20, draws=1)
  found = evaluate.run(str(run), evaluate.Config(label="none", **how))
  assert found["metrics"]["accuracy"]["samples"] is None
  assert np.isfinite(found["metrics"]["frechet"]["samples"])
  guided = evaluate.run(str(run), evaluate.Config(guidance=2.0, **how))
  assert guided["guidance"] == 2.0 and guided["calls"] == 14
  assert guided["metrics"]["accuracy"]["samples"] is not None


def test_a_run_without_labels_in_training_samples_the_null_label(null_run):
  ex = samples.read(null_run)
  assert ex.data.num_classes == 0 and ex.data.real[1] is None
  found = drawn(null_run)
  np.testing.assert_array_equal(found, drawn(null_run, label="none"))
  params, extras = averages.load(ex)
  x = jnp.ones(ex.data.shape)
  null = ex.field(params, extras, jnp.int32(10))(x, 1.0).data
  np.testing.assert_array_equal(
    ex.field(params, extras, None)(x, 1.0).data, null
  )


NULL = "label_dropout between 0 and 1, which learns the null label"


@pytest.mark.parametrize(
  "settings, said",
  [
    (dict(guidance=2.0, label="none"), "^label, guidance: expected a class"),
    (dict(guidance=float("nan")), "^guidance: expected a number of at least 0"),
    (dict(guidance=2.0, guidance_interval=(2.0, 1.0)), "^guidance_interval: "),
    (dict(guidance_interval=(-1.0, 1.0)), "^guidance_interval: expected 0 <="),
    (dict(label=10), "^label: expected 0 to 9"),
  ],
)
def test_what_is_rejected(run, settings, said):
  expect.error(said, drawn, run, **settings)


def test_runs_that_did_not_learn_the_null_label_are_rejected(
  null_run, tmp_path
):
  expect.error(NULL, drawn, null_run, guidance=2.0)
  plain = scripts.small("edm images", tmp_path, label_dropout=0.0, guidance=2.0)
  expect.error(NULL, edm.experiment, plain)
  points, _ = scripts.trained("edm", tmp_path / "points", num_steps=3)
  expect.error(NULL, drawn, points, guidance=0.0)
  expect.error("^label: expected a class, as only", drawn, points, label="none")
  other = dict(guidance=2.0, guide=str(points))
  message = r"^guide: expected a run with a field of examples \[8, 8, 1\]"
  expect.error(message, drawn, null_run, **other)


def test_a_record_of_before_guidance_is_read_and_resumed(tmp_path):
  directory, _ = scripts.trained("edm", tmp_path / "old", num_steps=3)
  record = json.loads((directory / "config.json").read_text())
  for name in ("guidance", "guidance_interval", "guide"):
    del record[name]
  (directory / "config.json").write_text(json.dumps(record))
  assert samples.read(directory).config.guidance == 1.0
  scripts.trained("edm", directory, num_steps=3)
  changed = scripts.small("edm", directory, num_steps=3, guidance=2.0)
  expect.error("guidance", edm.run, changed)
