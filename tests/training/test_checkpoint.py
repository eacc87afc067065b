"""What is read back is what was saved, or one clear line says why not."""

import errno
import os
import pickle
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp

from jaxgen.training import checkpoint, ema, state, step
from tests import expect, trees
from tests.test_no_pickle import Trap


def _turns():
  loss_fn = lambda params, key, batch: (jnp.sum(params["w"] ** 2), {})
  rules = {"fast": ema.constant(0.5), "slow": ema.constant(0.9)}
  return step.single(loss_fn, optax.adam(optax.constant_schedule(0.1)), rules)


def _state(seed=0, shape=(4, 3), at=0, dtype=jnp.float32, name="w", **extras):
  """A state at a step, all of its leaves different from zero."""
  params = {"model": {name: jnp.ones(shape, dtype)}}
  extras = {"mean": jnp.ones((), jnp.bfloat16)} | extras
  start = state.init(jax.random.key(seed), params, _turns(), extras)
  fill = lambda x: x + jnp.asarray(at, x.dtype)
  return state.State(
    fill(start.step),
    start.key,
    jax.tree.map(fill, start.players),
    jax.tree.map(fill, start.extras),
  )


def _save(directory, *states, keep=2, **settings):
  with checkpoint.saver(directory, keep=keep, **settings) as save:
    for each in states:
      save(each)


def test_a_state_comes_back_bit_for_bit(tmp_path):
  saved = _state(seed=7, at=3, pair=(jnp.ones(2), None))
  _save(tmp_path / "ckpt", saved)
  like = _state(pair=(jnp.zeros(2), None))
  read = checkpoint.restore(tmp_path / "ckpt", like)
  assert jax.tree.structure(read) == jax.tree.structure(saved)
  trees.assert_equal(read, saved)
  assert jax.random.uniform(read.key) == jax.random.uniform(saved.key)
  assert not any(x.weak_type for x in jax.tree.leaves(read.players))


def test_the_latest_are_kept_and_any_of_them_read(tmp_path):
  _save(tmp_path, _state(at=1), _state(at=2), _state(at=10))
  _save(tmp_path, _state(seed=1, at=10))  # is there already
  assert sorted(os.listdir(tmp_path)) == ["10", "2"]
  assert checkpoint.steps(tmp_path) == [2, 10]
  read = checkpoint.restore(tmp_path, _state())
  assert int(read.step) == 10 and read.key == jax.random.key(0)
  assert int(checkpoint.restore(tmp_path, _state(), step=2).step) == 2
  with pytest.raises(FileNotFoundError, match=r"no such checkpoint.* is 10"):
    checkpoint.restore(tmp_path, _state(), step=1)
  _save(tmp_path, _state(at=11), _state(at=12), keep=None)
  assert checkpoint.steps(tmp_path) == [2, 10, 11, 12]


def _consume(players):
  over = jax.jit(
    lambda players: jax.tree.map(lambda x: x * 0 - 7, players), donate_argnums=0
  )
  for _ in range(20):
    players = over(players)
  jax.block_until_ready(players)


def _delete(players):
  jax.tree.map(lambda x: x.delete(), players)


@pytest.mark.parametrize("lose", [_consume, _delete])
def test_what_is_saved_is_the_state_of_the_call(tmp_path, lose):
  """Its buffers may go at once, however late the files are written."""
  now = _state(shape=(300, 700), at=1)
  expected = jax.tree.map(np.array, now.players)
  with checkpoint.saver(tmp_path, keep=2) as save:
    save(now)
    lose(now.players)
  read = checkpoint.restore(tmp_path, _state(shape=(300, 700)))
  trees.assert_equal(read.players, expected)


def test_averages_come_back_without_the_optimizer(tmp_path):
  saved = _state(at=2)
  _save(tmp_path / "all", saved)
  _save(tmp_path / "alone", saved, items=("ema",), wait=True)
  for like in (saved.players["model"].ema, _shapes((4, 3))):
    for name in ("all", "alone"):
      read = checkpoint.restore_ema(tmp_path / name, {"model": like})
      trees.assert_equal(read, {"model": saved.players["model"].ema})
  like, name = {"model": _shapes((4, 2))}, "model/fast/w: expected"
  every, alone = tmp_path / "all", tmp_path / "alone"
  expect.error(f"{name} float32", checkpoint.restore_ema, every, like)
  del like["model"]["fast"]
  expect.error(f"{name} nothing", checkpoint.restore_ema, alone, like)
  said = r"items of a State, found \['ema'\]"
  expect.error(said, checkpoint.restore, alone, _state())


def _shapes(shape):
  one = {"w": jax.ShapeDtypeStruct(shape, jnp.float32)}
  return {"fast": one, "slow": one}


def test_waiting_saves_are_complete_when_they_return(tmp_path):
  with checkpoint.saver(tmp_path, keep=None, wait=True) as save:
    for at in (1, 2):
      save(_state(at=at))
      assert checkpoint.steps(tmp_path)[-1] == at


def test_what_differs_is_refused(tmp_path):
  with jax.enable_x64(True):
    _save(tmp_path / "wide", _state(dtype=jnp.float64, at=1))
  _save(tmp_path / "here", _state(at=1))
  cases = [
    ("wide", _state(), "w: expected float32(4, 3), found float64(4, 3)"),
    ("here", _state(shape=(5,)), "expected float32(5,), found float32(4, 3)"),
    ("here", _state(name="v"), "v: expected float32(4, 3), found nothing"),
    ("here", _state(more=jnp.ones(2)), "more: expected float32(2,), found not"),
    ("here", _state()._replace(extras={}), "mean: expected nothing, found bf"),
    (
      "here",
      _state()._replace(key=jax.random.key(0, impl="rbg")),
      "key key<fry>: expected nothing, found uint32(2,)",
    ),
  ]
  for name, like, message in cases:
    message = re.escape(message.replace("bf", "bfloat16"))
    text = expect.error(message, checkpoint.restore, tmp_path / name, like)
    assert str(tmp_path / name / "1") in text
    assert "start with the configuration" in text


def test_an_average_on_one_side_only_is_refused(tmp_path):
  without = lambda s: s._replace(
    players={n: p._replace(ema={}) for n, p in s.players.items()}
  )
  _save(tmp_path / "with", _state(at=1))
  _save(tmp_path / "without", without(_state(at=1)))
  for name, like, said in (
    ("with", without(_state()), "expected nothing, found"),
    ("without", _state(), "expected .* found nothing"),
  ):
    said, restore = f"model/fast/w: {said}", checkpoint.restore
    expect.error(said, restore, tmp_path / name, like)
  read = checkpoint.restore(tmp_path / "without", without(_state()))
  assert int(read.step) == 1
  given = tmp_path / "none", without(_state())
  said = r"expected \('ema',\) to store"
  expect.error(said, _save, *given, items=("ema",))


def test_nothing_there(tmp_path):
  for name in ("absent", "empty"):
    if name == "empty":
      (tmp_path / name).mkdir()
    assert checkpoint.steps(tmp_path / name) == []
    with pytest.raises(FileNotFoundError, match=f"{name}: has no checkpoint"):
      checkpoint.restore(tmp_path / name, _state())
  assert not (tmp_path / "absent").exists()


def test_a_foreign_directory_is_refused(tmp_path):
  (tmp_path / "7").mkdir()
  (tmp_path / "7" / "model.bin").write_bytes(b"abc")
  expect.error("/7: ", checkpoint.restore, tmp_path, _state())
  with ocp.training.Checkpointer(tmp_path / "other") as other:
    other.save_checkpointables(3, {"net": {"w": jnp.ones(2)}}, force=True)
  said = "other/3: expected the items of a State"
  expect.error(said, checkpoint.restore, tmp_path / "other", _state())


def _damage(file, how, trap):
  whole = file.read_bytes()
  middle = 2 * len(whole) // 3
  flipped = bytes([whole[middle] ^ 4]) if whole else b""
  if how == "flipped":
    file.write_bytes(whole[:middle] + flipped + whole[middle + 1 :])
  elif how == "cut":
    file.write_bytes(whole[:middle])
  elif how == "pickle":
    file.write_bytes(pickle.dumps(Trap(trap)))
  else:
    file.unlink()
  return whole


@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "pickle"])
def test_damage_to_any_file_is_one_line_or_harmless(tmp_path, how, capfd):
  """Never another state, never more than a line, never a pickle run."""
  saved, like, trap = _state(at=1), _state(), tmp_path / "sprung"
  _save(tmp_path / "run", saved)
  files = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
  refused = set()
  for file in files:
    whole = _damage(file, how, trap)
    try:
      trees.assert_equal(checkpoint.restore(tmp_path / "run", like), saved)
    except ValueError as error:
      assert "run/1: " in str(error) and "\n" not in str(error)
      assert len(str(error)) < 500
      refused.add(file.parent.name)
    file.write_bytes(whole)
  assert {"state", "d", "1"} <= refused  # structure, values, checksums
  assert not trap.exists()
  assert capfd.readouterr() == ("", "")


def test_a_save_cut_short_is_no_checkpoint(tmp_path, capfd):
  _save(tmp_path, _state(at=1))
  (tmp_path / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
  assert checkpoint.steps(tmp_path) == [1]
  _save(tmp_path, _state(at=3))
  assert int(checkpoint.restore(tmp_path, _state()).step) == 3
  assert sorted(os.listdir(tmp_path)) == ["1", "3"]
  assert capfd.readouterr() == ("", "")  # and no notes on the screen


@pytest.mark.parametrize("leave_at_once", [False, True])
def test_a_failed_write_is_one_line(tmp_path, monkeypatch, leave_at_once):
  """As on a full disk: at the next save or on leaving; the rest is whole."""
  _save(tmp_path, _state(at=1))

  def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")

  with pytest.raises(OSError, match=f"{tmp_path}: .*No space left") as error:
    with checkpoint.saver(tmp_path, keep=1) as save:
      monkeypatch.setattr(os, "rename", full)
      monkeypatch.setattr(os, "replace", full)
      save(_state(at=2))
      if not leave_at_once:
        save(_state(at=3))
        pytest.fail("the second save did not notice")
  text = str(error.value)
  assert "\n" not in text and "run the same command again" in text
  monkeypatch.undo()
  assert checkpoint.steps(tmp_path) == [1]
  trees.assert_equal(checkpoint.restore(tmp_path, _state()), _state(at=1))
  _save(tmp_path, _state(at=2), keep=1)
  assert os.listdir(tmp_path) == ["2"]


def test_training_goes_on_from_a_checkpoint_in_the_same_program(tmp_path):
  """The restored state has the types of the live one: nothing retraces."""
  loss_fn = chex.assert_max_traces(n=1)(
    lambda params, key, batch: (jnp.sum(params["w"] * batch), {})
  )
  turns = step.single(loss_fn, optax.adam(0.1), {"mean": ema.constant(0.9)})
  train_step = step.make_train_step(turns)
  init = lambda: state.init(
    jax.random.key(0), {"model": {"w": jnp.ones(3)}}, turns
  )
  now, _ = train_step(init(), {"model": np.ones(3, "f")})
  _save(tmp_path, now)
  restored = checkpoint.restore(tmp_path, init())
  restored, _ = train_step(restored, {"model": np.ones(3, "f")})
  now, _ = train_step(now, {"model": np.ones(3, "f")})
  trees.assert_equal(restored, now)
