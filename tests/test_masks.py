"""Masks of tokens: schedules, weights and draws, by closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import masks

# alpha and -alpha' / (1 - alpha), written out.
SCHEDULES = {
  "linear": (masks.linear, lambda t: 1 - t, lambda t: 1 / t),
  "cosine": (
    masks.cosine,
    lambda t: 1 - np.cos(np.pi / 2 * (1 - t)),
    lambda t: np.pi / 2 * np.tan(np.pi / 2 * (1 - t)),
  ),
  "square": (masks.power(2.0), lambda t: 1 - t**2, lambda t: 2 / t),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_and_weights_are_the_closed_forms(name):
  schedule, alpha, weight = SCHEDULES[name]
  t = np.linspace(0.05, 0.95, 7)
  with jax.enable_x64(True):
    found = jax.jit(jax.vmap(lambda t: masks.weight(schedule, t)))(t)
    np.testing.assert_allclose(found, weight(t), rtol=1e-12)
    np.testing.assert_allclose(schedule(t), alpha(t), rtol=1e-12)
  ends = np.asarray([schedule(0.0), schedule(1.0)])
  np.testing.assert_allclose(ends, [1, 0], atol=1e-7)
  assert masks.weight(schedule, 0.5).dtype == jnp.float32


def test_the_weight_is_0_where_alpha_rounds_to_1():
  """Nothing is masked there, so that the loss is 0 and not NaN."""
  for schedule, t in ((masks.linear, 2e-8), (masks.power(2.0), 1.5e-4)):
    assert schedule(t) == 1 and masks.weight(schedule, t) == 0
    slope = jax.grad(lambda t, of=schedule: masks.weight(of, t))(t)
    assert jnp.isfinite(slope)
    # The smallest numbers that float32 keeps beside 1.
    assert jnp.isfinite(masks.weight(schedule, 4 * t))


def test_stratified_times_have_one_in_each_cell():
  times = np.asarray(masks.stratified(jax.random.key(0), 40))
  assert times.dtype == np.float32 and times.shape == (40,)
  assert (times > 0).all() and (times <= 1).all()
  np.testing.assert_array_equal(
    np.sort(np.ceil(times * 40 - 1e-4)), np.arange(1, 41)
  )
  assert not (np.diff(times) > 0).all()
  other = masks.stratified(jax.random.key(1), 40)
  assert not np.array_equal(np.sort(times), np.sort(other))


def test_independent_masks_have_the_probability_of_the_schedule():
  draw = lambda key: masks.independent(key, masks.cosine, 0.4, (2, 3))
  found = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 4000))
  assert found.shape == (4000, 2, 3) and found.dtype == bool
  rate = 1 - np.cos(0.3 * np.pi)
  error = 4 * np.sqrt(rate * (1 - rate) / 4000)
  np.testing.assert_allclose(found.mean(0), np.full((2, 3), rate), atol=error)
  pairs = found.reshape(4000, 6).astype(float)
  off = np.corrcoef(pairs.T) - np.eye(6)
  assert np.abs(off).max() < 4 / np.sqrt(4000)


def test_a_number_of_entries_is_a_uniform_subset():
  draw = lambda key: masks.of_number(key, 2, (2, 2))
  found = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 6000))
  flat = found.reshape(6000, 4)
  np.testing.assert_array_equal(flat.sum(1), np.full(6000, 2))
  _, counts = np.unique(np.asarray(flat), axis=0, return_counts=True)
  assert len(counts) == 6  # each pair as often as the others
  assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # chi-squared, p = .001


def test_hidden_levels_are_the_mask_token():
  levels = jnp.arange(4, dtype=jnp.int32).reshape(2, 2)
  visible = jnp.array([[True, False], [False, True]])
  found = masks.hide(levels, visible, 9)
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(found, [[0, 9], [9, 3]])
  with pytest.raises(ValueError, match=r"visible: expected the shape of lev"):
    masks.hide(levels, visible[0], 9)


def test_narrow_levels_have_room_for_the_mask_token():
  levels = jnp.array([3, 255], "uint8")
  found = masks.hide(levels, jnp.array([True, False]), 256)
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(found, [3, 256])
  noise = jnp.zeros(257).at[256].set(1)
  found = masks.replace(jax.random.key(0), levels, 0.0, noise)
  np.testing.assert_array_equal(found, [256, 256])


def test_bad_input_is_one_line():
  with pytest.raises(ValueError, match="exponent: expected a positive number"):
    masks.power(0.0)
  with pytest.raises(ValueError, match="number: expected at least 1, got 0"):
    masks.stratified(jax.random.key(0), 0)
  for draw in (
    lambda key: masks.stratified(key, 3),
    lambda key: masks.independent(key, masks.linear, 0.5, (2,)),
    lambda key: masks.of_number(key, 1, (2,)),
  ):
    with pytest.raises(ValueError, match="key"):
      draw(jax.random.PRNGKey(0))
