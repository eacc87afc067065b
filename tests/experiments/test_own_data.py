"""A user's own images and points, in every script that takes them."""

import dataclasses
import json

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from experiments import edm, encode, evaluate, flow_matching, sample
from experiments import score_matching as score
from experiments.lib import datasets
from experiments.pictures import planes
from tests import expect
from tests.experiments import scripts

RNG = np.random.RandomState(0)
FEATURES = "jaxgen.metrics.pooled:features"
# Script: the setting of a second dataset, and the pictures of points.
OF_POINTS = {
  "edm": (None, ("samples.png", "trajectory.png", "paths.png")),
  "flow": (
    "source",
    ("samples.png", "trajectory.png", "paths.png", "straightness.png"),
  ),
  "score": (None, ("samples.png", "trajectory.png", "paths.png")),
  "gan": (None, ("samples.png",)),
  "wasserstein": ("other", ("potential.png",)),
  "map semi_dual": (
    "source",
    ("samples.png", "trajectory.png", "paths.png", "map.png"),
  ),
}


def save_points(path, dim, number=120):
  np.savez(path, points=RNG.normal(size=(number, dim)))
  return f"file:{path}"


@pytest.mark.parametrize("name", OF_POINTS)
def test_points_of_any_dimension_train_and_are_drawn(name, tmp_path):
  second, pictures = OF_POINTS[name]
  changes = dict(data=save_points(tmp_path / "a.npz", 3), num_steps=2)
  if second is not None:
    changes[second] = save_points(tmp_path / "b.npz", 3)
  script, config = scripts.SCRIPTS[name].module, scripts.SCRIPTS[name].config
  if hasattr(config, "warmup_steps"):
    changes["warmup_steps"] = 0
  changes |= dict(log_every=2, samples_every=2)
  script.run(scripts.small(name, tmp_path / "run", **changes))
  found = {path.name for path in (tmp_path / "run").glob("*.png")}
  assert found == {"curves.png", *pictures}
  for picture in pictures:
    pixels = matplotlib.image.imread(tmp_path / "run" / picture)
    assert pixels[..., :3].std() > 0.03
  if "samples.png" not in pictures:
    return
  made = sample.run(str(tmp_path / "run"), sample.Config(number=7))
  assert made.shape == (7, 3) and np.isfinite(made).all()
  evaluate.run(str(tmp_path / "run"), evaluate.Config(draws=1))
  (record,) = json.loads(
    (tmp_path / "run" / "results.json").read_text()
  ).values()
  assert np.isfinite(record["metrics"]["frechet"]["samples"])
  assert record["metrics"]["accuracy"]["samples"] is None
  if name == "edm":
    found = encode.run(
      str(tmp_path / "run"), encode.Config(number=3, between=2)
    )
    assert found.latents.shape == (3, 3)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_points_are_shown_on_a_plane(dim):
  points = RNG.normal(size=(4, 3, dim))
  found = planes.flat(points)
  assert found.shape == (4, 3, 2)
  expected = points[..., :2] if dim > 1 else points * [1, 0]
  np.testing.assert_array_equal(found, expected)
  _, axis = planes.plt.subplots()
  planes.window(axis, planes.square(found), found.reshape(-1, 2), dim=dim)
  names = axis.get_xlabel(), axis.get_ylabel()
  planes.plt.close("all")
  assert (
    names
    == {
      1: ("$x_1$ of 1", ""),
      2: ("$x_1$", "$x_2$"),
      5: ("$x_1$ of 5", "$x_2$ of 5"),
    }[dim]
  )


def save_images(folder, shape, number=30):
  """Disks of random places and levels, on black: gray, or RGB."""
  folder.mkdir()
  height, width, *_ = shape
  rows, columns = np.indices((height, width))
  for row in range(number):
    place = RNG.uniform(0.2, 0.8, 2) * (height, width)
    disk = np.hypot(rows - place[0], columns - place[1]) < min(shape[:2]) / 4
    level = RNG.randint(100, 256, shape[2:])
    pixels = disk.reshape(height, width, *(1,) * len(shape[2:])) * level
    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row}.png")
  return f"folder:{folder}"


@pytest.mark.parametrize("module", [edm, flow_matching, score])
def test_the_preset_images_needs_only_a_folder(tmp_path, module):
  """Any shape builds, with the network of a folder whose size is unknown."""
  for number, shape in enumerate([(28, 28), (13, 17, 3), (4, 4)]):
    data = save_images(tmp_path / str(number), shape, 3)
    _, config = module.PRESETS["images"]
    config = dataclasses.replace(config, data=data)
    ex = module.experiment(config)
    assert ex.data.shape == (*shape, 1)[:3]
    assert ex.config.attention == (-(-max(shape[:2]) // 4),)


# The smallest network that pads: its patches do not divide odd sides.
TINY = dict(model="dit", num_steps=2, warmup_steps=0, num_blocks=1)


def test_images_of_an_odd_size_train_and_are_sampled(tmp_path):
  data = save_images(tmp_path / "disks", (13, 13), 60)
  run_dir = str(tmp_path / "run")
  edm.run(scripts.small("edm images", run_dir, data=data, **TINY))
  made = sample.run(run_dir, sample.Config(number=5))
  assert made.shape == (5, 13, 13, 1) and np.isfinite(made).all()
  found = encode.run(run_dir, encode.Config(number=2, between=2, steps=1))
  assert found.decoded.shape == (2, 13, 13, 1)
  said = f"features: expected module:function, such as {FEATURES}, as "
  expect.error(said, evaluate.run, run_dir, evaluate.Config())


def test_a_resized_run_is_read_as_it_was_trained(tmp_path):
  """The size and the conversion are stored and used again by commands."""
  save_images(tmp_path / "disks", (20, 14))
  save_images(tmp_path / "more", (9, 11, 4), 40)
  for path in (tmp_path / "more").iterdir():
    path.rename(tmp_path / "disks" / f"more{path.name}")
  how = dict(data=f"folder:{tmp_path / 'disks'}", image_size=8, convert=True)
  config = scripts.small("edm images", tmp_path / "run", **TINY, **how)
  edm.run(config)
  record = json.loads((tmp_path / "run" / "config.json").read_text())
  assert (record["image_size"], record["convert"]) == (8, True)
  made = sample.run(str(tmp_path / "run"), sample.Config(number=2))
  assert made.shape == (2, 8, 8, 3)
  evaluate.run(
    str(tmp_path / "run"), evaluate.Config(draws=1, features=FEATURES)
  )
  assert datasets.load(config).real[0].shape == (7, 8, 8, 3)
