"""experiments.flow_matching: pairs, interpolants, reflow and rejections."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from experiments import encode, evaluate, flow_matching, sample
from experiments.lib import averages, datasets, samples
from experiments.recipes import diffusion, flows
from jaxgen import samplers
from jaxgen.training import checkpoint
from tests import expect
from tests.experiments import scripts

INTERPOLANT = dict(coupling="independent", interpolant=True, ratio_min=0.01)
INTERPOLANT |= dict(bridge="brownian", bridge_std=1.0)


def _tiny(run_dir="", **changes):
  return scripts.small("flow", run_dir, draw="uniform", **changes)


def _parts(config):
  data = datasets.load(config)
  config = diffusion.resolve(config, data)
  source = datasets.load_source(config, data)
  model = flows.make(config, data, source)
  return config, data, source, model


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  directory = tmp_path_factory.mktemp("flow") / "pair"
  return scripts.trained("flow", directory, draw="uniform")


def test_its_samples_start_at_the_source_and_end_at_time_zero(pair):
  ex = samples.read(pair[0])
  assert ex.times.marks[0] == 1 and ex.times.marks[-1] == 0
  assert ex.num_calls == 3
  starts, ends = samples.pairs(ex)(jax.random.key(0), None, 256)
  moons = datasets.load_data("moons").real[0]
  np.testing.assert_allclose(starts.mean(0), moons.mean(0), atol=0.5)
  np.testing.assert_allclose(starts.std(0), moons.std(0), atol=0.4)
  assert ends.shape == (256, 2) and np.all(np.isfinite(ends))


def test_other_solvers(pair):
  directory = str(pair[0])
  drawn = sample.run(directory, sample.Config(number=7, solver="heun"))
  assert drawn.shape == (7, 2)
  how = dict(number=64, draws=2, solver="midpoint")
  assert evaluate.run(directory, evaluate.Config(**how))["calls"] == 6
  config = encode.Config(number=3, between=3, steps=24)
  found = encode.run(directory, config)
  np.testing.assert_allclose(found.decoded, found.examples, atol=1e-3)
  message = r"^solver, source, bridge: .* got unipc"
  config = encode.Config(solver="unipc_2")
  expect.error(message, samples.read, directory, config)


def test_latents_between_data_sets_are_joined_by_straight_lines(pair):
  """They are points of the source, not noise on a sphere."""
  ex = samples.read(pair[0])
  a, b = np.float32([1, 0]), np.float32([0, 3])
  np.testing.assert_allclose(ex.between(a, b, 0.25), [0.75, 0.75])


def test_reflow_trains_on_the_flow_of_another_run(pair):
  changes = dict(coupling="independent", reflow=str(pair[0]), reflow_pairs=32)
  parts = _parts(_tiny(**changes))[:3]
  key = jax.random.key(3)
  found, labels, source = flow_matching.make_batches(*parts, key)(0)
  assert labels is None and found.shape == source.shape == (16, 2)
  ex = samples.read(pair[0])
  field, times = ex.field(*averages.load(ex), None), ex.vectors.times
  one = lambda x: samplers.integrate(
    samplers.euler(), field, x, times, jax.random.key(0)
  )
  expected = jax.jit(jax.vmap(one))(source)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  other = dataclasses.replace(parts[0], source="s_curve")
  given = flow_matching.make_batches, other, *parts[1:], jax.random.key(4)
  expect.error("has another source", *given)


def test_reflow_records_what_it_reads(pair, tmp_path, monkeypatch):
  """And is rejected where the other run has been trained further since."""
  scripts.without_pictures(monkeypatch)
  directory, state = pair
  first, again = tmp_path / "first", tmp_path / "again"
  shutil.copytree(directory, first)
  changes = dict(coupling="independent", reflow=str(first), reflow_pairs=32)
  config = _tiny(again, num_steps=3, samples_every=9, **changes)
  flow_matching.run(config)
  before = (again / "config.json").read_bytes()
  read = json.loads(before)["reads"]
  known = checkpoint.digest(first / "checkpoints")
  assert read == {"reflow": dict(run_dir=str(first), step=6, digest=known)}
  assert sample.run(str(again), sample.Config(number=3)).shape == (3, 2)
  flow_matching.run(config)  # nothing has changed
  with checkpoint.saver(first / "checkpoints", keep=1) as save:
    save(state._replace(step=state.step + 1))
  message = r"another configuration \(reads "
  assert "'step': 7" in expect.error(message, flow_matching.run, config)
  assert (again / "config.json").read_bytes() == before
  # Its samples need the other run no longer.
  shutil.rmtree(first)
  made = sample.run(str(again), sample.Config(number=3))
  assert made.shape == (3, 2)
  missing = _tiny(tmp_path / "new", **changes)
  with pytest.raises(FileNotFoundError, match=r"^reflow: .*no such run"):
    flow_matching.run(missing)
  assert not (tmp_path / "new").exists()


def test_an_interpolant_is_sampled_with_and_without_noise():
  for solver, calls in (("euler", 3), ("euler_maruyama", 4)):
    config = _tiny(**INTERPOLANT, solver=solver)
    config, data, source, model = _parts(config)
    params = model.init(jax.random.key(0))
    many = jax.jit(jax.vmap(lambda key: model.sample(params, key, None)))
    states, ends = many(jax.random.split(jax.random.key(1), 64))
    assert model.num_calls == calls and np.all(np.isfinite(ends))
    # The network starts at zero: the flow stands still, the SDE does not.
    moved = np.abs(np.asarray(states[:, -1] - states[:, 0])).max()
    assert (moved > 0.5) == (solver == "euler_maruyama")
  key = jax.random.key(0)
  batch = flow_matching.make_batches(config, data, source, key)(0)
  loss_fn = flow_matching.make_loss(config, model, data.num_classes)
  loss, _ = jax.jit(loss_fn)(params, jax.random.key(1), batch)
  assert np.isfinite(loss) and loss > 0


def test_from_noise_any_solver_samples_and_labels_stay_with_their_images():
  sets = dict(data="digits", source="gaussian", coupling="conditional")
  config = _tiny(model="mlp", solver="unipc_2", **sets)
  *parts, model = _parts(config)
  assert model.num_calls == 4
  key = jax.random.key(0)
  images, labels, source = flow_matching.make_batches(*parts, key)(1)
  train, known = parts[1].split("train")
  for image, label in zip(images, labels, strict=True):
    rows = np.flatnonzero((train == image).all((1, 2, 3)))
    assert label in known[rows]
  assert abs(source.std() - 1) < 0.1 and source.shape == images.shape
