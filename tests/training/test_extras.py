"""Checkpoints: extras read alone, and a digest of what is stored."""

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxgen.training import checkpoint, state, step
from tests import expect, trees


def _state(seed=0, at=0, mean=1):
  """A state at a step, with extras that depend on it."""
  turns = step.single(lambda params, key, batch: (0.0, {}), optax.adam(0.1))
  extras = {"mean": jnp.full((), mean + at, jnp.bfloat16)}
  params = {"model": {"w": jnp.full((4, 3), 1.0 + at)}}
  start = state.init(jax.random.key(seed), params, turns, extras)
  return start._replace(step=start.step + at)


def _save(directory, *states):
  with checkpoint.saver(directory, keep=2) as save:
    for each in states:
      save(each)


def test_extras_come_back_alone(tmp_path):
  _save(tmp_path, _state(at=1), _state(at=4))
  like = {"mean": jax.ShapeDtypeStruct((), jnp.bfloat16)}
  for step_, at in ((None, 4), (1, 1)):
    read = checkpoint.restore_extras(tmp_path, like, step_)
    trees.assert_equal(read, _state(at=at).extras)
  wide, read = {"mean": jnp.zeros(())}, checkpoint.restore_extras
  expect.error("mean: expected .*, found bfloat16", read, tmp_path, wide)
  with pytest.raises(FileNotFoundError, match="has no checkpoint"):
    checkpoint.restore_extras(tmp_path / "none", like)


def test_equal_states_alone_have_equal_digests(tmp_path):
  changed = _state(at=1, mean=3)
  states = _state(at=1), _state(at=1), _state(at=2), _state(1, at=1), changed
  for number, each in enumerate(states):
    _save(tmp_path / str(number), each)
  digests = [checkpoint.digest(tmp_path / str(i)) for i in range(len(states))]
  assert digests[0] == digests[1] and len(set(digests)) == len(states) - 1
  _save(tmp_path / "0", _state(at=2))
  assert checkpoint.digest(tmp_path / "0") == digests[2]
  assert checkpoint.digest(tmp_path / "0", step=1) == digests[0]
  with pytest.raises(FileNotFoundError, match="has no checkpoint"):
    checkpoint.digest(tmp_path / "none")
