"""Held-out losses, metrics and places of records, and AdamW in parts."""

import contextlib
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import edm, flow_matching, gan, wasserstein
from experiments.lib import monitors, training
from experiments.pictures import figures
from jaxgen.training import logging, step
from tests import expect, trees
from tests.experiments import scripts

EVERY = dict(validate_every=2, metrics_every=4, num_steps=4, samples_every=100)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(directory, last state) of a run on digits that records all."""
  directory = tmp_path_factory.mktemp("monitors") / "run"
  return scripts.trained("edm images", directory, **EVERY)


def test_records_are_those_of_the_weights_and_averages(run):
  """The loss by hand, on the held-out batches, and one set of samples."""
  directory, last = run
  records = logging.read(directory / "metrics.jsonl")
  kinds = [tuple(r.keys() - {"step", "seconds"}) for r in records]
  steps = [r["step"] for r in records]
  assert steps == [2, 2, 4, 4, 4]
  assert {"held_out", "held_out_ema"} == {*kinds[1]} == {*kinds[3]}
  names = {"frechet", "kid", "density", "coverage", "accuracy", "copies"}
  assert {f"metrics/{name}" for name in names} <= {*kinds[4]}
  assert all(np.isfinite(list(r.values())).all() for r in records)
  ex = edm.experiment(scripts.small("edm images", directory, **EVERY))
  found = monitors.held_out(ex)(last)
  assert found == {k: records[3][k] for k in found}
  # Only held-out images are in the batches, all of them of validation.
  batch_fn = ex.validation(jax.random.key(0))
  images, labels = batch_fn(0)["model"]
  real, real_labels = ex.data.split("validation")
  for image, label in zip(images, labels, strict=True):
    (rows,) = np.nonzero((real == image).all((1, 2, 3)))
    assert label in real_labels[rows]
  # By hand: the mean of four batches, each with a key of its own.
  model, (turn,) = last.players["model"], ex.turns
  loss_fn = jax.jit(turn.loss_fn)
  seed_key = lambda: ex.keys(jax.random.key(ex.config.seed)).state
  batch_fn = ex.validation(jax.random.fold_in(seed_key(), 1))
  for name, params in (
    ("held_out", model.params),
    ("held_out_ema", model.ema["0.999"]),
  ):
    losses = []
    for number in range(monitors.NUM_BATCHES):
      key = jax.random.fold_in(jax.random.fold_in(seed_key(), 2), number)
      batch = jax.tree.map(jnp.asarray, batch_fn(number)["model"])
      losses.append(loss_fn({"model": params}, {}, key, batch, 4)[0])
    np.testing.assert_allclose(np.mean(losses), found[name], rtol=1e-5)


def test_records_do_not_change_the_run(run, tmp_path):
  plain = dict(num_steps=4, samples_every=100)
  _, last = scripts.trained("edm images", tmp_path / "plain", **plain)
  trees.assert_equal(last.players, run[1].players)


def test_the_report_of_a_curve_that_turns():
  """The lowest loss and highest likelihood of 1 to 5, and the last of each."""
  log_p, nan = "log_likelihood/given labels", float("nan")
  records = [
    {"step": step, "held_out": loss, log_p: -loss, "loss": 1 / step}
    for step, loss in enumerate([3.0, nan, 1.5, 1.5, 2.0], 1)
  ]
  records += [{"step": 6, "critic/held_out_ema": 7.0}, {"step": 7, "loss": 0.0}]
  assert monitors.report(records) == [
    "held_out: best 1.5 at step 3, 2 at step 5, the last",
    f"{log_p}: best -1.5 at step 3, -2 at step 5, the last",
    "critic/held_out_ema: best 7 at step 6, 7 at step 6, the last",
  ]
  assert monitors.report([{"step": 1, "held_out": nan, "loss": 1.0}]) == []


def test_curves_show_them(run, tmp_path, monkeypatch):
  shown = []
  monkeypatch.setattr(
    figures, "save", lambda figure, path: shown.append(figure)
  )
  records = logging.read(run[0] / "metrics.jsonl")
  figures.curves(tmp_path / "curves.png", records)
  loss, distance, speed = shown[0].axes
  lines = {line.get_label(): line for line in loss.get_lines()}
  for name, title in figures.HELD_OUT.items():
    values = [r[name] for r in records if name in r]
    step = 2 + 2 * int(np.argmin(values))
    line = lines[f"{title}, best at {step}"]
    assert line.get_ydata().tolist() == values
    (star,) = (
      star
      for star in loss.get_lines()
      if star.get_marker() == "*" and star.get_color() == line.get_color()
    )
    assert star.get_xydata().tolist() == [[step, min(values)]]
  (line,) = distance.get_lines()
  assert line.get_xdata().tolist() == [4]
  assert line.get_ydata()[0] == records[4]["metrics/frechet"]
  assert speed.get_ylabel() == "steps / s"


@pytest.mark.parametrize(
  "module, name, changes, message",
  [
    (
      gan,
      "gan",
      dict(validate_every=1),
      "^validate_every: expected 0, as runs",
    ),
    (wasserstein, "wasserstein", dict(metrics_every=1), "have no samples$"),
    (edm, "edm", dict(metrics_every=-1), "^metrics_every: expected at least 0"),
    (edm, "edm", dict(log_to=("paper",)), "^log_to: expected one of tensorbo"),
    (
      edm,
      "edm",
      dict(accumulate=3),
      "^accumulate, batch_size: expected a divi",
    ),
    (
      edm,
      "edm",
      dict(weight_decay=-1.0),
      "^weight_decay: expected a number of",
    ),
  ],
)
def test_what_is_rejected(tmp_path, module, name, changes, message):
  config = scripts.small(name, tmp_path / "run", **changes)
  expect.error(message, module.run, config)
  assert not (tmp_path / "run").exists()


def test_pairs_that_a_run_generates_are_never_held_out(tmp_path):
  source, _ = scripts.trained("flow", tmp_path / "flow", coupling="independent")
  config = scripts.small(
    "flow", tmp_path / "new", coupling="independent", reflow=str(source)
  )
  assert flow_matching.experiment(config).validation is None


def test_tensorboard_reads_every_record(tmp_path):
  """By the library's own reader of event files."""
  tensorboardX = pytest.importorskip("tensorboardX")
  with logging.tensorboard(tmp_path, 0) as log:
    log(1, {"loss": 0.5, "a/b": 2.0})
    log(2, {"loss": 0.25})
  (file,) = tmp_path.iterdir()
  content, found = file.read_bytes(), []
  while content:  # length, checksum, event, checksum
    size = int.from_bytes(content[:8], "little")
    event = tensorboardX.proto.event_pb2.Event.FromString(
      content[12 : 12 + size]
    )
    found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    content = content[16 + size :]
  assert found == [(1, "loss", 0.5), (1, "a/b", 2.0), (2, "loss", 0.25)]


def test_wandb_gets_the_settings_and_every_record(tmp_path, monkeypatch):
  sent, begun = [], []

  @contextlib.contextmanager
  def init(**how):
    begun.append(how)
    yield types.SimpleNamespace(log=lambda m, step: sent.append((step, m)))

  client = types.SimpleNamespace(init=init)
  monkeypatch.setitem(sys.modules, "wandb", client)
  directory, _ = scripts.trained("edm", tmp_path / "run", log_to=("wandb",))
  assert [step for step, _ in sent] == [2, 4, 6]
  assert sent[0][1].keys() == {"loss"}
  how = begun[0]
  assert how["name"] == "run" and how["resume"] == "allow"
  assert how["config"]["num_steps"] == 6
  with logging.wandb(directory, {}):  # the same directory, the same run
    assert begun[1]["id"] == how["id"]
  with logging.wandb(tmp_path / "other", {}):
    assert begun[2]["id"] != how["id"]


@pytest.mark.parametrize("name", ["tensorboardX", "wandb"])
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, name):
  monkeypatch.setitem(sys.modules, name, None)
  place = name.removesuffix("X")
  config = scripts.small("edm", tmp_path / "run", log_to=(place,))
  with pytest.raises(ImportError, match=f"pip install {name}$"):
    edm.run(config)
  assert not (tmp_path / "run").exists()


def test_weight_decay_is_that_of_adamw():
  config = edm.Config("", schedule="constant", warmup_steps=0, clip_norm=1e9)
  params = {"w": jnp.array([2.0, -1.0])}
  grads = {"w": jnp.array([0.1, 0.3])}
  for decay in (0.0, 0.1):
    own = training.adam(scripts.dataclasses.replace(config, weight_decay=decay))
    other = optax.adamw(3e-3, b2=0.99, weight_decay=decay)
    found, _ = own.update(grads, own.init(params), params)
    truth, _ = other.update(grads, other.init(params), params)
    trees.assert_close(found, truth, rtol=1e-6)


def test_accumulated_runs_count_real_updates(tmp_path):
  config = scripts.small("edm", tmp_path / "run", accumulate=4)
  (turn,) = edm.experiment(config).turns
  assert isinstance(turn, step.Turn) and turn.accumulate == 4
  directory, last = scripts.trained("edm", tmp_path / "run", accumulate=4)
  assert int(last.step) == 6
  counts = [
    int(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(
      last.players["model"].opt_state
    )
    if jax.tree_util.keystr(path).endswith("count")
  ]
  assert counts and set(counts) == {6}
  record = json.loads((directory / "config.json").read_text())
  assert record["accumulate"] == 4
