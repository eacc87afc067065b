"""Shifts of an image against NumPy's pad and slice."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.data import augmentation


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_all_nine_moves_are_equally_likely(probability):
  image = np.float32(np.random.default_rng(0).uniform(-1, 1, (4, 5, 2)))
  wide = np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=-1)
  moved = {
    wide[i : i + 4, j : j + 5].tobytes(): (i - 1, j - 1)
    for i in range(3)
    for j in range(3)
  }
  one = lambda key, x: augmentation.shift(key, x, probability)
  many = jax.jit(jax.vmap(one, (0, None)))
  keys = jax.random.split(jax.random.key(0), 1800)
  found = np.asarray(many(keys, image))
  assert found.shape == (1800, 4, 5, 2) and found.dtype == np.float32
  counts = collections.Counter(moved[one.tobytes()] for one in found)
  for way in moved.values():
    part = probability / 9 + (1 - probability) * (way == (0, 0))
    spread = 5 * np.sqrt(part * (1 - part) / 1800)
    assert abs(counts[way] / 1800 - part) <= spread, way


def test_the_gradient_of_what_stays_is_passed():
  image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 4, 1)))
  seen = jax.grad(lambda x, key: augmentation.shift(key, x, 1.0).sum())
  keys = jax.random.split(jax.random.key(1), 50)
  many = np.asarray(jax.vmap(seen, (None, 0))(image, keys))
  assert set(many.sum((1, 2, 3)).tolist()) == {9.0, 12.0, 16.0}
