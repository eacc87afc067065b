"""What is read back is what was saved, or one clear line says why not."""

import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import checkpoint, ema, state, step


def _turns():
  loss_fn = lambda params, key, batch: (jnp.sum(params["w"] ** 2), {})
  return step.single(
    loss_fn, optax.adam(optax.constant_schedule(0.1)), ema.constant(0.9)
  )


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


def test_a_state_comes_back_bit_for_bit(tmp_path):
  saved = _state(seed=7, at=3, pair=(jnp.ones(2), None))
  checkpoint.save(tmp_path / "ckpt", saved)
  like = _state(pair=(jnp.zeros(2), None))
  read = checkpoint.restore(tmp_path / "ckpt", like)
  assert jax.tree.structure(read) == jax.tree.structure(saved)
  chex.assert_trees_all_equal(read, saved)
  chex.assert_trees_all_equal_shapes_and_dtypes(read, saved)
  assert jax.random.uniform(read.key) == jax.random.uniform(saved.key)
  assert not any(x.weak_type for x in jax.tree.leaves(read.players))


def test_the_latest_are_kept_and_any_of_them_read(tmp_path):
  for at in (1, 2, 10):
    checkpoint.save(tmp_path, _state(at=at), keep=2)
  checkpoint.save(tmp_path, _state(seed=1, at=10), keep=2)  # is there already
  assert sorted(os.listdir(tmp_path)) == ["10", "2"]
  assert checkpoint.latest_step(tmp_path) == 10
  read = checkpoint.restore(tmp_path, _state())
  assert int(read.step) == 10 and read.key == jax.random.key(0)
  assert int(checkpoint.restore(tmp_path, _state(), step=2).step) == 2
  with pytest.raises(FileNotFoundError, match=r"no such checkpoint.* is 10"):
    checkpoint.restore(tmp_path, _state(), step=1)
  with pytest.raises(ValueError, match="keep: expected at least 1"):
    checkpoint.save(tmp_path, _state(), keep=0)


def test_averages_come_back_without_the_optimizer(tmp_path):
  saved = _state(at=2)
  checkpoint.save(tmp_path, saved)
  like = {"model": {"w": jax.ShapeDtypeStruct((4, 3), jnp.float32)}}
  read = checkpoint.restore_ema(tmp_path, like)
  chex.assert_trees_all_equal(read, {"model": saved.players["model"].ema})
  like = {"model": {"w": jax.ShapeDtypeStruct((4, 2), jnp.float32)}}
  with pytest.raises(ValueError, match="model/w: expected float32"):
    checkpoint.restore_ema(tmp_path, like)


def test_what_differs_is_refused(tmp_path):
  with jax.enable_x64(True):
    checkpoint.save(tmp_path / "wide", _state(dtype=jnp.float64, at=1))
  checkpoint.save(tmp_path / "here", _state(at=1))
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
    with pytest.raises(ValueError) as error:
      checkpoint.restore(tmp_path / name, like)
    text = str(error.value)
    message = message.replace("bf", "bfloat16")
    assert message in text and str(tmp_path / name / "1") in text
    assert "start with the configuration" in text and "\n" not in text


def test_an_average_on_one_side_only_is_refused(tmp_path):
  without = lambda s: s._replace(
    players={n: p._replace(ema=None) for n, p in s.players.items()}
  )
  checkpoint.save(tmp_path / "with", _state(at=1))
  checkpoint.save(tmp_path / "without", without(_state(at=1)))
  with pytest.raises(ValueError, match="model/w: expected nothing, found flo"):
    checkpoint.restore(tmp_path / "with", without(_state()))
  with pytest.raises(ValueError, match=r"model/w: expected .* found nothing"):
    checkpoint.restore(tmp_path / "without", _state())
  read = checkpoint.restore(tmp_path / "without", without(_state()))
  assert int(read.step) == 1


def test_nothing_there(tmp_path):
  for name in ("absent", "empty"):
    if name == "empty":
      (tmp_path / name).mkdir()
    assert checkpoint.latest_step(tmp_path / name) is None
    with pytest.raises(FileNotFoundError, match=f"{name}: no checkpoint here"):
      checkpoint.restore(tmp_path / name, _state())
  assert not (tmp_path / "absent").exists()


def test_foreign_and_damaged_directories_are_refused(tmp_path):
  foreign = tmp_path / "foreign" / "7"
  foreign.mkdir(parents=True)
  (foreign / "model.bin").write_bytes(b"abc")
  with pytest.raises(ValueError, match="foreign/7: ") as error:
    checkpoint.restore(tmp_path / "foreign", _state())
  assert "\n" not in str(error.value)

  checkpoint.save(tmp_path / "cut", _state(at=1))
  os.truncate(tmp_path / "cut" / "1" / "state" / "_METADATA", 40)
  with pytest.raises(ValueError, match=r"cut/1: cannot be read.*; delete it"):
    checkpoint.restore(tmp_path / "cut", _state())


def test_a_save_cut_short_is_no_checkpoint(tmp_path, capfd):
  checkpoint.save(tmp_path, _state(at=1))
  (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
  assert checkpoint.latest_step(tmp_path) == 1
  checkpoint.save(tmp_path, _state(at=3))
  assert int(checkpoint.restore(tmp_path, _state()).step) == 3
  assert capfd.readouterr() == ("", "")  # and no notes on the screen


def test_training_goes_on_from_a_checkpoint_in_the_same_program(tmp_path):
  """The restored state has the types of the live one: nothing retraces."""
  loss_fn = chex.assert_max_traces(n=1)(
    lambda params, key, batch: (jnp.sum(params["w"] * batch), {})
  )
  turns = step.single(loss_fn, optax.adam(0.1), ema.constant(0.9))
  train_step = step.make_train_step(turns)
  init = lambda: state.init(
    jax.random.key(0), {"model": {"w": jnp.ones(3)}}, turns
  )
  now, _ = train_step(init(), {"model": np.ones(3, "f")})
  checkpoint.save(tmp_path, now)
  restored = checkpoint.restore(tmp_path, init())
  restored, _ = train_step(restored, {"model": np.ones(3, "f")})
  now, _ = train_step(now, {"model": np.ones(3, "f")})
  chex.assert_trees_all_equal(restored, now)
