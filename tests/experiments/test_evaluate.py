"""experiments.evaluate: what it writes, what it refuses."""

import json

import matplotlib.image
import numpy as np
import pytest

from experiments import evaluate
from jaxgen.data import digits
from tests.experiments import scripts


def pixels(images):
  """Features for the tests: the image's rows and columns, added up."""
  return np.concatenate([images.sum((1, 3)), images.sum((2, 3))], 1)


def wrong(images):
  raise KeyError("no")


def infinite(images):
  return np.full((len(images), 2), np.inf)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  directory = tmp_path_factory.mktemp("evaluate") / "digits"
  sizes = dict(num_steps=4, save_every=2, sample_steps=2)
  return scripts.trained("edm images", directory, **sizes)[0]


def _run(directory, **settings):
  settings = {"draws": 2, "features": f"{__name__}:pixels"} | settings
  return evaluate.run(str(directory), evaluate.Config(**settings))


@pytest.fixture(scope="module")
def first(trained):
  return _run(trained)


def test_what_is_written(trained, first):
  record = json.loads((trained / "results.json").read_text())["validation"]
  assert record == first
  assert (record["number"], record["draws"]) == (180, 2)
  assert (record["solver"], record["sample_steps"]) == ("heun", 2)
  assert record["step"] == 4
  assert record["metrics"]["coverage"]["met"] is False
  assert 0.9 < record["metrics"]["accuracy"]["floor"] <= 1
  picture = matplotlib.image.imread(trained / "results.png")
  assert picture.std() > 0.05


def test_the_table_reads(first, capsys):
  text = evaluate.table(first)
  assert len(text.splitlines()) == 10 and max(map(len, text.splitlines())) < 100
  assert "not met" in text and "in [" in text and "at most" in text


def test_another_split_and_number(trained, first):
  """Of the first 20 in a fixed order; a damaged file is written anew."""
  path = trained / "results.json"
  path.write_text("[]")
  other = _run(trained, split="test", draws=1, number=20)
  assert json.loads(path.read_text()) == {"test": other}
  assert other["number"] == 20 and other["metrics"]["frechet"]["spread"] is None
  assert other["metrics"]["copies"]["floor"] == 0
  train, held_out = (
    digits.load(split)[0].reshape(-1, 64) for split in ("train", "test")
  )
  rows = np.random.RandomState(0).permutation(360)[:20]
  nearest = [np.linalg.norm(x - train, axis=1).min() for x in held_out[rows]]
  floor = pytest.approx(np.median(nearest), 1e-5)
  assert other["metrics"]["nearest_50"]["floor"] == floor


def test_steps_and_solvers(trained, first):
  """An earlier checkpoint and another sampler give other samples."""
  path, distances = trained / "results.json", []
  path.write_text(json.dumps({"test": first}))
  for change in ({}, {"step": 2}, {"sample_steps": 3}):
    found = _run(trained, number=20, **change)
    distances.append(found["metrics"]["frechet"]["samples"])
  assert np.unique(np.round(distances, 6)).size == 3
  assert found["sample_steps"] == 3
  written = json.loads(path.read_text())
  assert written == {"test": first, "validation": found}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"draws": 0}, "draws: expected at least 1, got 0"),
    ({"chunk": 0}, "chunk: expected at least 1, got 0"),
    ({"number": 5}, "number: expected at least 6, got 5"),
    ({"number": 10**12}, "number: expected at most 2147483647, got 1000000"),
    ({"seed": 2**63}, r"seed: expected 0 to 4294967295 \(32 bits\), got 92"),
    ({"number": 3000}, "^number: .*ask for fewer samples"),
    ({"split": "train"}, "split: expected one of validation, test"),
    ({"features": "nowhere"}, "features: expected module:function"),
    ({"features": "no.where:f"}, "features: expected module:function"),
    ({"features": "math:f"}, "features: expected module:function"),
    ({"features": "math:pi"}, "features: expected a function, got math:pi = 3"),
    (
      {"features": f"{__name__}:wrong"},
      r":wrong fails on images \[1257, 8, 8, 1\] \(KeyError: 'no'\)",
    ),
    ({"features": "builtins:repr"}, r"features: builtins:repr fails on images"),
    ({"features": "builtins:len"}, r"features: expected \[1257, K\] .* got \["),
    ({"features": f"{__name__}:infinite"}, "features: expected finite numbers"),
    ({"step": 3}, "^step: .*no such checkpoint"),
    ({"solver": "typo"}, "solver: expected one of"),
  ],
)
@pytest.mark.usefixtures("first")  # it writes results.json
def test_bad_settings_are_refused(trained, change, message):
  before = (trained / "results.json").read_bytes()
  with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
    _run(trained, **change)
  assert "\n" not in str(caught.value)
  assert (trained / "results.json").read_bytes() == before


@pytest.mark.parametrize("draws, sets", [(1, "1 set"), (5, "5 sets")])
def test_the_title_of_the_picture_is_words(draws, sets, tmp_path, monkeypatch):
  titles = []
  draw = lambda path, found, title: titles.append(title)
  monkeypatch.setattr(evaluate.metrics, "results", draw)
  record = dict(draws=draws, number=180, calls=35, metrics={})
  evaluate.write(tmp_path, "test", record, object())
  words = f"{sets} of 180 samples, test data, 35 network calls per sample"
  assert titles == [words]
