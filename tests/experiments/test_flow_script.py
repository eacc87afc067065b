"""experiments.flow_matching: runs, their subcommands, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import encode, evaluate, flow_matching, sample
from experiments.lib import averages, datasets, samples
from experiments.recipes import flows
from jaxgen import samplers
from tests import trees

TINY = flow_matching.Config(
  run_dir="",
  data="eight_gaussians",
  source="moons",
  coupling="exact",
  coupled_batches=2,
  draw="uniform",
  width=16,
  num_blocks=1,
  num_steps=6,
  batch_size=16,
  warmup_steps=2,
  sample_steps=3,
  log_every=2,
  save_every=3,
  samples_every=6,
)
INTERPOLANT = dict(
  coupling="independent",
  interpolant=True,
  bridge="brownian",
  bridge_std=1.0,
  ratio_min=0.01,
)


def _tiny(**changes):
  return dataclasses.replace(TINY, **changes)


def _method(config):
  """(data, model, batches) of a configuration that is valid."""
  ex = flow_matching.experiment(config)
  config = ex.config
  source = flow_matching.make_source(config, ex.data)
  model = flows.make(config, ex.data, source)
  batches = lambda key: lambda n: ex.batches(key)(n)["model"]
  return ex.data, model, batches


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  directory = tmp_path_factory.mktemp("flow") / "pair"
  return directory, flow_matching.run(_tiny(run_dir=str(directory)))


def test_a_run_leaves_its_pictures(pair):
  names = {path.name for path in pair[0].glob("*.png")}
  assert names == {
    f"{name}.png"
    for name in "samples trajectory paths fields straightness curves".split()
  }


def test_an_interrupted_run_ends_like_the_unbroken_one(
  pair, tmp_path, monkeypatch
):
  """Cut off inside a pool of coupled batches."""

  def cut(*given, real=flow_matching.make_batches):
    batch_fn = real(*given)

    def until(step):
      if step >= 5:
        raise RuntimeError("cut off")
      return batch_fn(step)

    return until

  config = _tiny(run_dir=str(tmp_path / "cut"))
  with monkeypatch.context() as patch:
    patch.setattr(flow_matching, "make_batches", cut)
    with pytest.raises(RuntimeError, match="cut off"):
      flow_matching.run(config)
  again = flow_matching.run(config)
  for name in ("params", "ema"):
    found, expected = (
      getattr(state.players["model"], name) for state in (again, pair[1])
    )
    trees.assert_equal(found, expected)


def test_its_samples_start_at_the_source_and_end_at_time_zero(pair):
  ex = samples.read(pair[0])
  assert ex.times.marks[0] == 1 and ex.times.marks[-1] == 0
  assert ex.num_calls == 3
  starts, ends = samples.pairs(ex)(jax.random.key(0), None, 256)
  moons = datasets.load(_tiny(data="moons")).real[0]
  np.testing.assert_allclose(starts.mean(0), moons.mean(0), atol=0.5)
  np.testing.assert_allclose(starts.std(0), moons.std(0), atol=0.4)
  assert ends.shape == (256, 2) and np.all(np.isfinite(ends))


def test_subcommands(pair):
  directory = str(pair[0])
  drawn = sample.run(directory, sample.Config(number=7, solver="heun"))
  assert drawn.shape == (7, 2)
  record = evaluate.run(
    directory, evaluate.Config(number=64, draws=2, solver="midpoint")
  )
  assert record["calls"] == 6
  config = encode.Config(number=3, between=3, steps=24)
  found = encode.run(directory, config)
  np.testing.assert_allclose(found.decoded, found.examples, atol=1e-3)
  middle = (found.latents[0] + found.latents[1]) / 2
  ends = found.interpolations[0]
  assert np.all(np.isfinite(middle)) and ends.shape == (3, 2)
  with pytest.raises(
    ValueError, match=r"^solver, source, bridge: .* got unipc"
  ):
    samples.read(directory, encode.Config(solver="unipc_2"))


def test_reflow_trains_on_the_flow_of_another_run(pair):
  config = _tiny(coupling="independent", reflow=str(pair[0]), reflow_pairs=32)
  found, labels, source = _method(config)[2](jax.random.key(3))(0)
  assert labels is None and found.shape == source.shape == (16, 2)
  ex = samples.read(pair[0])
  field = ex.field(*averages.load(ex), None)
  times = jax.numpy.asarray(ex.times.marks)
  one = lambda x: samplers.integrate(
    samplers.euler(), field, x, times, jax.random.key(0)
  )
  expected = jax.jit(jax.vmap(one))(source)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  other = dataclasses.replace(config, source="s_curve")
  with pytest.raises(ValueError, match="has another source"):
    _method(other)[2](jax.random.key(3))(0)


def test_an_interpolant_is_sampled_with_and_without_noise():
  for solver, calls in (("euler", 3), ("euler_maruyama", 4)):
    config = _tiny(**INTERPOLANT, solver=solver)
    ex = flow_matching.experiment(config)
    params = ex.players(jax.random.key(0))
    states, ends = samples.make_sampler(ex)(
      params, {}, jax.random.split(jax.random.key(1), 64), None
    )
    assert ex.num_calls == calls and np.all(np.isfinite(ends))
    # The network starts at zero: the flow stands still, the SDE does not.
    moved = np.abs(np.asarray(states[:, -1] - states[:, 0])).max()
    assert (moved > 0.5) == (solver == "euler_maruyama")
  _, model, batches = _method(config)
  loss_fn = flow_matching.make_loss(ex.config, model, 0)
  batch = batches(jax.random.key(0))(0)
  loss, _ = jax.jit(loss_fn)(params["model"], jax.random.key(1), batch)
  assert np.isfinite(loss) and loss > 0


def test_from_noise_any_solver_samples_and_labels_stay_with_their_images():
  config = _tiny(
    data="digits",
    source="gaussian",
    coupling="conditional",
    model="mlp",
    solver="unipc_2",
  )
  data, model, batches = _method(config)
  assert model.num_calls == 4 and model.marks[0] == "noise ratio"
  images, labels, source = batches(jax.random.key(0))(1)
  train, known = data.split("train")
  for image, label in zip(images, labels, strict=True):
    rows = np.flatnonzero((train == image).all((1, 2, 3)))
    assert label in known[rows]
  assert abs(source.std() - 1) < 0.1 and source.shape == images.shape


@pytest.mark.parametrize(
  "changes, match",
  [
    (dict(source="digits"), r"^source, data: expected examples \[2\]"),
    (dict(source="mons"), "source: expected one of"),
    (dict(coupling="conditional"), "^coupling, data: expected labels"),
    (dict(coupling="entropic"), "^coupling, bridge: expected brownian"),
    (dict(coupling="nearest"), "coupling: expected one of"),
    (dict(bridge="brown", bridge_std=1.0), "bridge: expected one of"),
    (dict(bridge="constant"), "^bridge_std, bridge: expected 0 with none"),
    (dict(bridge_std=0.1), "^bridge_std, bridge: expected 0 with none"),
    (dict(interpolant=True), "^interpolant, bridge: expected a bridge"),
    (dict(reflow="runs/a"), "^coupling, reflow: expected independent"),
    (
      dict(solver="ancestral"),
      "^solver, source, .*: expected a solver",
    ),
    (
      dict(source="gaussian", solver="churn"),
      "^solver, source, .*: expected",
    ),
    (
      dict(sample_path="linear"),
      "^sample_path, source, bridge: expected",
    ),
    (dict(coupled_batches=0), "coupled_batches: expected at least 1"),
    (dict(path="edm"), "path: expected one of linear, trigonometric, got"),
    (dict(prediction="noise"), "^prediction: expected one of velocity, got"),
  ],
)
def test_what_does_not_go_together_is_refused(changes, match):
  with pytest.raises(ValueError, match=match):
    _method(_tiny(**changes))
