"""Every family trains, resumes bit for bit, samples and is measured."""

import dataclasses
import inspect

import numpy as np
import pytest

from experiments import edm, encode, evaluate, sample
from experiments.lib import averages, samples
from experiments.recipes import presets
from jaxgen.training import loop
from tests import expect, trees
from tests.experiments import families, scripts

SCRIPT = families.__file__
FIRST = {"two_stages": "vae", "flow_map": "teacher"}
NAMES = [fn.__name__ for fn in families.FAMILIES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with the runs that others read."""
  place = tmp_path_factory.mktemp("families")
  families.run(_config(place, "vae"))
  small = dict(width=8, num_blocks=1) | presets.SMOKE
  edm.run(edm.Config(str(place / "teacher"), data="moons", **small))
  return place


def _config(place, family, name=None):
  first, run_dir = FIRST.get(family), str(place / (name or family))
  first = None if first is None else str(place / first)
  every = dict(log_every=10, save_every=10, samples_every=20)
  return families.Config(run_dir, family=family, first=first, **every)


def test_each_is_short():
  for fn in families.FAMILIES:
    assert len(inspect.getsource(fn).splitlines()) < 40, fn.__name__


@pytest.mark.parametrize("family", NAMES)
def test_a_family(folder, family, monkeypatch):
  config = _config(folder, family)
  whole = families.run(config)
  cut = dataclasses.replace(config, run_dir=f"{config.run_dir}-cut")
  scripts.without_pictures(monkeypatch)
  with monkeypatch.context() as patch:
    run = loop.run

    def stops(*args, **kwargs):  # as a signal would
      run(*args, **kwargs | dict(num_steps=10))
      raise loop.Interrupted(10, 15)

    patch.setattr(loop, "run", stops)
    with pytest.raises(loop.Interrupted):
      families.run(cut)
  trees.assert_equal(families.run(cut), whole)
  few = sample.run(config.run_dir, sample.Config(script=SCRIPT, number=30))
  assert few.shape == (30, 2) and np.isfinite(few).all()
  more = sample.run(config.run_dir, sample.Config(script=SCRIPT, number=40))
  np.testing.assert_allclose(few, more[:30], rtol=1e-5, atol=1e-6)
  how = dict(script=SCRIPT, draws=1, number=50)
  found = evaluate.run(config.run_dir, evaluate.Config(**how))
  assert np.isfinite(found["metrics"]["frechet"]["samples"])
  ex = samples.read(config.run_dir, script=SCRIPT)
  if ex.encode is None:
    how = encode.Config(script=SCRIPT)
    expect.error("has no encoder", encode.run, config.run_dir, how)
  else:
    latents = samples.make_coders(ex)[0](averages.load(ex), few, None)
    assert np.isfinite(latents).all()


def test_a_run_that_is_read_may_not_change(folder):
  place = folder / "changed"
  base = _config(place, "vae")
  families.run(base)
  config = _config(place, "two_stages")
  families.run(config)
  found = samples.read(config.run_dir, script=SCRIPT)
  assert dict(found.reads) == {"codec": base.run_dir}
  longer = dataclasses.replace(base, num_steps=30, run_dir=str(place / "new"))
  families.run(longer)
  (place / "vae").rename(place / "old")
  (place / "new").rename(place / "vae")
  expect.error(r"another configuration \(reads", families.run, config)
  said = r"codec: .* has changed .* 20, now 30"
  expect.error(said, samples.read, config.run_dir, script=SCRIPT)
