"""experiments.sample: what it writes, what it refuses."""

import json
import shutil

import jax
import matplotlib.image
import numpy as np
import pytest

from experiments import edm, sample
from experiments.lib import samples
from jaxgen.training import checkpoint
from tests import expect
from tests.experiments import scripts


@pytest.fixture(scope="module")
def points(tmp_path_factory):
  directory = tmp_path_factory.mktemp("sample") / "toy"
  return scripts.trained("edm", directory, data="moons", num_steps=3)[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  directory = tmp_path_factory.mktemp("sample") / "digits"
  return scripts.trained("edm images", directory, num_steps=3)[0]


def _run(directory, **settings):
  return sample.run(str(directory), sample.Config(**settings))


def _names(directory):
  return {path.name for path in directory.iterdir()}


def test_images_are_written_with_their_labels(images):
  samples = _run(images, number=13)
  assert samples.shape == (13, 8, 8, 1) and samples.dtype == np.float32
  stored = scripts.stored(images / "drawn.npz")
  np.testing.assert_array_equal(stored["samples"], samples)
  np.testing.assert_array_equal(stored["labels"], np.arange(13) % 10)
  picture = matplotlib.image.imread(images / "drawn.png")[..., :3]
  scale = picture.shape[1] // 89
  pixels = picture[scale // 2 :: scale, scale // 2 :: scale, 0]
  assert pixels.shape == (17, 89)  # two rows of ten
  expected = np.clip((samples[11, ..., 0] + 1) / 2, 0, 1)
  np.testing.assert_allclose(pixels[9:, 9:17], expected, atol=1 / 255)
  assert np.all(pixels[9:, 27:] == 1)


def test_one_label(images):
  _run(images, number=3, label=7, name="sevens")
  stored = scripts.stored(images / "sevens.npz")
  np.testing.assert_array_equal(stored["labels"], [7, 7, 7])
  assert (images / "sevens.png").is_file()


def test_points_are_written_without_labels(points):
  samples = _run(points, number=50)
  assert samples.shape == (50, 2)
  stored = scripts.stored(points / "drawn.npz")
  assert [*stored] == ["samples"]
  np.testing.assert_array_equal(stored["samples"], samples)
  assert matplotlib.image.imread(points / "drawn.png").std() > 0.03


def test_a_sample_depends_on_seed_and_index_alone(points):
  whole = _run(points, number=9)
  few = _run(points, number=4)
  chunks = _run(points, number=9, chunk=2)
  np.testing.assert_allclose(few, whole[:4], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(chunks, whole, rtol=1e-5, atol=1e-5)
  assert len(np.unique(whole[:, 0])) == 9
  other = _run(points, number=9, seed=1)
  assert np.abs(other - whole).min() > 1e-4


def test_samples_between_two_examples(images, points):
  ex = samples.read(images)
  examples, labels = ex.data.real
  i, j = np.flatnonzero(labels == labels[0])[:2]
  how = dict(number=5, name="walk", sample_steps=64)
  found = _run(images, interpolate=(int(i), int(j)), **how)
  assert found.shape == (5, 8, 8, 1)
  # The ends are the two examples: the flow is inverted.
  np.testing.assert_allclose(found[[0, -1]], examples[[i, j]], atol=2e-2)
  assert np.abs(found[2] - found[0]).max() > 0.1
  stored = scripts.stored(images / "walk.npz")
  np.testing.assert_array_equal(stored["labels"], np.full(5, labels[0]))
  assert (images / "walk.png").is_file()
  assert _run(points, interpolate=(0, 1), **how).shape == (5, 2)
  other = int(np.flatnonzero(labels != labels[0])[0])
  rejected = lambda said, **more: expect.error(
    said, _run, images, **dict(interpolate=(int(i), int(j))) | more
  )
  rejected("interpolate: expected two examples of", interpolate=(int(i), other))
  rejected("interpolate: expected two positions", interpolate=(-1, 3))
  rejected("interpolate: expected two positions", interpolate=(0, 10**6))
  rejected("label, interpolate: expected None", label=3)
  rejected("solver: expected a deterministic solver", solver="churn")
  rejected("number: expected at least 2", number=1)


@pytest.mark.parametrize(
  "change",
  [
    {"solver": "ddim"},
    {"solver": "churn", "churn": 1.0},
    {"sample_steps": 5},
    {"grid": "uniform"},
  ],
)
def test_settings_of_the_run_can_be_changed(points, change):
  before = _run(points, number=6)
  record = (points / "config.json").read_text()
  after = _run(points, number=6, **change)
  assert np.all(np.isfinite(after)) and np.abs(after - before).max() > 1e-4
  assert (points / "config.json").read_text() == record


def test_the_amount_of_churn_is_read(points):
  little = _run(points, number=6, solver="churn", churn=0.0)
  much = _run(points, number=6, solver="churn", churn=2.0)
  np.testing.assert_allclose(little, _run(points, number=6), atol=1e-4)
  assert np.abs(much - little).max() > 1e-3


def test_another_path_gives_the_same_samples(points):
  own = _run(points, number=6, sample_steps=200)
  moved = _run(points, number=6, sample_steps=200, sample_path="linear")
  np.testing.assert_allclose(moved, own, atol=5e-3)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"number": 0}, "number: expected at least 1, got 0"),
    ({"chunk": 0}, "chunk: expected at least 1, got 0"),
    ({"label": 10}, "label: expected 0 to 9, got 10"),
    ({"label": -1}, "label: expected 0 to 9, got -1"),
    ({"name": "../up"}, "name: expected a bare file name"),
    ({"name": ""}, "name: expected a bare file name"),
    ({"solver": "typo"}, "solver: expected one of"),
    ({"sample_steps": 0}, "expected at least 1, got 0"),
  ],
)
def test_bad_settings_are_refused(images, change, message):
  before = _names(images)
  expect.error(message, _run, images, **change)
  assert _names(images) == before


def test_a_label_of_a_model_without_labels_is_refused(points):
  expect.error("label: expected None", _run, points, label=3)


def test_a_missing_run_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="no such run directory"):
    _run(tmp_path / "missing")
  assert not any(tmp_path.iterdir())


def test_another_directory_is_refused(tmp_path):
  expect.error("not a run directory", _run, tmp_path)


def test_a_run_without_a_checkpoint_is_refused(points, tmp_path):
  shutil.copy(points / "config.json", tmp_path)
  with pytest.raises(FileNotFoundError, match="has no checkpoint"):
    _run(tmp_path)
  assert _names(tmp_path) == {"config.json"}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"experiment": "os"}, "its script 'os' is not in experiments/"),
    ({"new_setting": 1}, "settings differ from this version's: new_setting"),
  ],
)
def test_a_run_of_another_version_is_refused(points, tmp_path, change, message):
  record = json.loads((points / "config.json").read_text())
  (tmp_path / "config.json").write_text(json.dumps(record | change))
  expect.error(message, _run, tmp_path)


def test_a_run_under_way_is_sampled_from_its_last_checkpoint(points, tmp_path):
  """The average of a checkpoint is what is sampled, not the parameters."""
  shutil.copytree(points, tmp_path / "run")
  config = samples.read(points).config
  before = _run(tmp_path / "run", number=4)
  shutil.rmtree(tmp_path / "run" / "checkpoints")
  directory = tmp_path / "run" / "checkpoints"
  state = edm.run(config)  # finished: restored, nothing trained
  player = state.players["model"]
  zero = jax.tree.map(lambda leaf: 0 * leaf, player.ema)
  changed = state._replace(players={"model": player._replace(ema=zero)})
  with checkpoint.saver(directory, keep=1) as save:
    save(changed)
  after = _run(tmp_path / "run", number=4)
  assert np.abs(after - before).max() > 1e-6
