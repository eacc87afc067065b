"""The loop: a run that was interrupted ends as the unbroken one."""

import contextlib
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import checkpoint, ema, logging, loop, state, step
from tests import expect, trees
from tests.training import runs


def _loss(params, key, batch):
  mask = jax.random.bernoulli(key, 0.5, batch.shape)
  return jnp.mean((batch * mask - params["w"]) ** 2), {}


TURNS = step.single(_loss, optax.adam(0.05), {"mean": ema.warmup(0.99)})
TRAIN_STEP = step.make_train_step(TURNS)


def _batch(step):
  rng = np.random.default_rng(step)
  return {"model": rng.normal(size=(16, 3)).astype("f")}


def _init():
  params = {"model": {"w": jnp.zeros((1, 3))}}
  return state.init(jax.random.key(2), params, TURNS)


def _run(directory, batch_fn=_batch, num_steps=12, **settings):
  """As an experiment does: resume where there is something, then train."""
  now = _init()
  if checkpoint.steps(directory / "checkpoints"):
    now = checkpoint.restore(directory / "checkpoints", now)
  settings = {
    "log_every": 2,
    "save_every": 5,
    "saver": checkpoint.saver(directory / "checkpoints", keep=2),
    "log": logging.jsonl(directory / "metrics.jsonl", int(now.step)),
  } | settings
  return loop.run(TRAIN_STEP, now, batch_fn, num_steps=num_steps, **settings)


def _records(directory):
  records = logging.read(directory / "metrics.jsonl")
  return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


def test_few_steps_are_under_way_at_once(tmp_path, monkeypatch):
  waited, wait = [], jax.block_until_ready
  monkeypatch.setattr(
    loop.jax, "block_until_ready", lambda x: waited.append(x) or wait(x)
  )
  made = []

  def train_step(now, batch):
    assert len(made) - len(waited) <= step.AHEAD
    now, metrics = TRAIN_STEP(now, batch)
    made.append(metrics)
    return now, metrics

  quiet = dict(log_every=100, save_every=100, log=lambda *_: None)
  saver = contextlib.nullcontext(lambda _: None)
  loop.run(train_step, _init(), _batch, num_steps=12, saver=saver, **quiet)
  assert len(waited) == 12 - step.AHEAD
  assert all(a is b for a, b in zip(waited, made, strict=False))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  directory = tmp_path_factory.mktemp("unbroken")
  return _run(directory), _records(directory)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [0, 6])
def test_an_interrupted_run_resumes_to_the_same_end(
  tmp_path, unbroken, number, at
):
  def batch_fn(step):
    if step == at:
      signal.raise_signal(number)
    return _batch(step)

  before = signal.getsignal(number)
  with pytest.raises(loop.Interrupted) as stopped:
    _run(tmp_path, batch_fn)
  assert signal.getsignal(number) is before
  assert stopped.value.step == at + 1
  assert stopped.value.signal_number == number
  message = f"{number.name}: stopped and saved at step {at + 1}"
  assert str(stopped.value) == message
  assert checkpoint.steps(tmp_path / "checkpoints")[-1] == at + 1
  trees.assert_equal(_run(tmp_path), unbroken[0])
  assert _records(tmp_path) == unbroken[1]


def test_a_crash_resumes_from_the_last_checkpoint(tmp_path, unbroken):
  def batch_fn(step):
    if step == 9:
      raise OSError("gone")
    return _batch(step)

  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(OSError, match="gone"):
    _run(tmp_path, batch_fn)
  assert signal.getsignal(signal.SIGINT) is before
  assert [r["step"] for r in _records(tmp_path)] == [2, 4, 6, 8]
  trees.assert_equal(_run(tmp_path), unbroken[0])
  assert _records(tmp_path) == unbroken[1]


def test_more_signals_until_all_is_written_are_harmless(tmp_path):
  @contextlib.contextmanager
  def saver(directory):
    with checkpoint.saver(directory, keep=2) as save:

      def noisy(now):
        signal.raise_signal(signal.SIGINT)
        save(now)

      yield noisy
      signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)

  for num_steps, expected in ((12, 6), (5, 5)):
    directory = tmp_path / str(num_steps)
    with pytest.raises(loop.Interrupted) as stopped:
      noisy = dict(saver=saver(directory), log=lambda *record: None)
      _run(directory, num_steps=num_steps, **noisy)
    assert stopped.value.step == checkpoint.steps(directory)[-1] == expected


def test_periods_and_the_last_step():
  calls = {"log": [], "save": [], "hook": []}
  noted = lambda name: lambda now: calls[name].append(int(now.step))
  settings = dict(
    saver=runs.saver(noted("save")),
    log=lambda step, metrics: calls["log"].append(step),
    hooks=[(3, noted("hook"))],
  )
  every = dict(num_steps=7, log_every=3, save_every=2)
  final = runs.quiet(TRAIN_STEP, _init(), _batch, **every, **settings)
  assert calls == {"log": [3, 6, 7], "save": [2, 4, 6, 7], "hook": [3, 6]}
  assert int(final.step) == 7
  settings = dict(num_steps=7, saver=runs.saver(calls["save"].append))
  again = runs.quiet(TRAIN_STEP, final, _batch, **settings)
  assert again is final and calls["save"] == [2, 4, 6, 7]


class _Number:
  """A metric that notes when it is read."""

  def __init__(self, value, reads, now):
    self.value, self.reads, self.now = value, reads, now

  def __float__(self):
    self.reads.append(self.now())
    return self.value


def test_metrics_are_read_only_where_they_are_logged():
  steps, others, losses = [], [], []
  now = lambda: len(steps)

  def train_step(state, batch):
    steps.append(batch)
    metrics = {"norm": _Number(0.0, others, now)}
    metrics["loss"] = _Number(0.0, losses, now)
    return state._replace(step=state.step + 1), metrics

  every = dict(num_steps=20, log_every=5, save_every=7)
  runs.quiet(train_step, _init(), _batch, **every)
  assert others == [5, 10, 15, 20]
  assert set(losses) == {5, 7, 10, 14, 15, 20}  # of the steps before, too
  assert len(losses) == 20 + len(others)


@pytest.mark.parametrize(
  ("settings", "kept"),
  [
    ({"log_every": 100, "save_every": 3}, [3]),  # looked at before a save
    ({"log_every": 1, "save_every": 100}, []),
    ({"log_every": 100, "save_every": 100, "num_steps": 6}, []),  # the end
    ({"log_every": 100, "save_every": 4}, [4]),
  ],
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, settings, kept):
  """At that very step, whenever it is noticed; what was good stays."""
  bad = {4: np.inf, 5: np.nan}  # steps 5 and 6, counted from one

  def batch_fn(step):
    return {"model": _batch(step)["model"] + np.float32(bad.get(step, 0))}

  with pytest.raises(loop.Diverged, match=r"model: loss is .* at step 5") as e:
    _run(tmp_path, batch_fn, **settings)
  assert e.value.player == "model" and e.value.step == 5
  assert checkpoint.steps(tmp_path / "checkpoints") == kept
  path = tmp_path / "metrics.jsonl"
  logged = [r["step"] for r in logging.read(path)] if path.exists() else []
  assert logged == ([1, 2, 3, 4] if settings["log_every"] == 1 else [])


@pytest.mark.parametrize("what", ["params", "ema"])
def test_parameters_that_are_not_finite_are_not_saved(tmp_path, what):
  """Though the loss, of the parameters before them, still was."""

  def train_step(now, batch):
    now, metrics = TRAIN_STEP(now, batch)
    if int(now.step) == 10:
      model = now.players["model"]
      spoil = lambda x: x.at[0, 1].set(jnp.nan)
      tree = jax.tree.map(spoil, getattr(model, what))
      now.players["model"] = model._replace(**{what: tree})
    return now, metrics

  message = f"model: {what} are not finite at step 10"
  hooked = []
  settings = dict(num_steps=12, log_every=12, save_every=5)
  settings |= dict(hooks=[(5, lambda now: hooked.append(int(now.step)))])
  saver = checkpoint.saver(tmp_path, keep=2)
  with pytest.raises(loop.Diverged, match=message):
    runs.quiet(train_step, _init(), _batch, saver=saver, **settings)
  assert checkpoint.steps(tmp_path) == hooked == [5]


def test_of_several_players_the_one_is_named(tmp_path):
  frozen = state.Player({"w": jnp.zeros(3)}, (), {})
  good, bad = np.float32(0), np.float32(-np.inf)
  several = {"a/loss": good, "critic/loss": bad, "x/loss": bad}
  for name, metrics in (("critic", several), ("model", {"loss": bad})):
    message, start = f"{name}: loss is -inf at step 1", _init()
    players = {"a": frozen, "critic": frozen} | start.players
    start, unsaved = start._replace(players=players), runs.saver(pytest.fail)
    train_step = lambda now, batch, metrics=metrics: (now, metrics)
    with pytest.raises(loop.Diverged, match=message):
      runs.quiet(train_step, start, _batch, saver=unsaved)


def test_other_threads_leave_signals_alone():
  handlers, results = [], []
  before = signal.getsignal(signal.SIGINT)

  def batch_fn(step):
    handlers.append(signal.getsignal(signal.SIGINT))
    return _batch(step)

  def train():
    results.append(runs.quiet(TRAIN_STEP, _init(), batch_fn, num_steps=2))

  thread = threading.Thread(target=train)
  thread.start()
  thread.join()
  assert handlers == [before, before] and int(results[0].step) == 2


@pytest.mark.parametrize(
  ("settings", "match"),
  [
    ({"log_every": 0}, "log_every: expected at least 1 step, got 0"),
    ({"save_every": 0}, "save_every: expected"),
    ({"hooks": [(1, print), (0, print)]}, r"hooks\[1\]: expected"),
    ({"num_steps": -1}, "num_steps: expected at least the 0 steps done, got"),
  ],
)
def test_bad_settings(tmp_path, settings, match):
  expect.error(match, _run, tmp_path, **settings)
  assert list(tmp_path.iterdir()) == []
