"""The loop: a run that was interrupted ends as the unbroken one."""

import signal
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import checkpoint, ema, logging, loop, state, step


def _loss(params, key, batch):
  mask = jax.random.bernoulli(key, 0.5, batch.shape)
  return jnp.mean((batch * mask - params["w"]) ** 2), {}


TURNS = step.single(_loss, optax.adam(0.05), ema.warmup(0.99))
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
  if checkpoint.latest_step(directory / "checkpoints") is not None:
    now = checkpoint.restore(directory / "checkpoints", now)
  settings = {
    "log_every": 2,
    "save_every": 5,
    "save": lambda s: checkpoint.save(directory / "checkpoints", s),
    "log": logging.jsonl(directory / "metrics.jsonl", int(now.step)),
  } | settings
  return loop.run(TRAIN_STEP, now, batch_fn, num_steps=num_steps, **settings)


def _records(directory):
  records = logging.read(directory / "metrics.jsonl")
  return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


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
  assert checkpoint.latest_step(tmp_path / "checkpoints") == at + 1
  chex.assert_trees_all_equal(_run(tmp_path), unbroken[0])
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
  chex.assert_trees_all_equal(_run(tmp_path), unbroken[0])
  assert _records(tmp_path) == unbroken[1]


def test_more_signals_during_the_save_are_harmless(tmp_path):
  saved = []

  def save(now):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    checkpoint.save(tmp_path, now)
    saved.append(int(now.step))

  for num_steps, step_expected in ((12, 6), (5, 5)):
    saved.clear()
    with pytest.raises(loop.Interrupted) as stopped:
      _run(tmp_path / "none", num_steps=num_steps, save=save, log=_ignore)
    assert stopped.value.step == saved[-1] == step_expected


def _ignore(step, metrics):
  pass


def test_periods_and_the_last_step():
  calls = {"log": [], "save": [], "hook": []}
  final = loop.run(
    TRAIN_STEP,
    _init(),
    _batch,
    num_steps=7,
    log_every=3,
    save_every=2,
    save=lambda now: calls["save"].append(int(now.step)),
    log=lambda step, metrics: calls["log"].append(step),
    hooks=[(3, lambda now: calls["hook"].append(int(now.step)))],
  )
  assert calls == {"log": [3, 6, 7], "save": [2, 4, 6, 7], "hook": [3, 6]}
  assert int(final.step) == 7
  again = loop.run(
    TRAIN_STEP,
    final,
    _batch,
    num_steps=7,
    log_every=1,
    save_every=1,
    save=calls["save"].append,
    log=_ignore,
  )
  assert again is final and calls["save"] == [2, 4, 6, 7]


def test_metrics_are_read_only_where_they_are_logged():
  class Metric:
    reads = 0

    def __float__(self):
      Metric.reads += 1
      return 0.0

  def train_step(now, batch):
    return now._replace(step=now.step + 1), {"loss": Metric()}

  loop.run(
    train_step,
    _init(),
    _batch,
    num_steps=20,
    log_every=5,
    save_every=20,
    save=lambda now: None,
    log=_ignore,
  )
  assert Metric.reads == 4


def test_other_threads_leave_signals_alone():
  handlers, results = [], []
  before = signal.getsignal(signal.SIGINT)

  def batch_fn(step):
    handlers.append(signal.getsignal(signal.SIGINT))
    return _batch(step)

  def train():
    settings = dict(log_every=1, save_every=1, save=lambda now: None)
    results.append(
      loop.run(
        TRAIN_STEP, _init(), batch_fn, num_steps=2, log=_ignore, **settings
      )
    )

  thread = threading.Thread(target=train)
  thread.start()
  thread.join()
  assert handlers == [before, before] and int(results[0].step) == 2


@pytest.mark.parametrize(
  ("settings", "match"),
  [
    ({"log_every": 0}, "log_every: expected at least 1 step, got 0"),
    ({"save_every": -1}, "save_every: expected"),
    ({"hooks": [(0, print)]}, r"hooks\[0\]: expected"),
    ({"num_steps": -1}, "num_steps: expected at least the 0 done, got -1"),
  ],
)
def test_bad_settings(tmp_path, settings, match):
  with pytest.raises(ValueError, match=match):
    _run(tmp_path, **settings)
  assert list(tmp_path.iterdir()) == []
