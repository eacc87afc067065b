"""The autoregressive script: levels of data, its networks, what it rejects."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import autoregressive
from experiments.lib import datasets
from experiments.recipes import coding, sequences
from jaxgen import orders
from tests import expect
from tests.models import twins

SMALL = dict(width=8, num_blocks=1, num_heads=2)
POINTS = autoregressive.Config("", data="moons", num_bins=5, **SMALL)
IMAGES = autoregressive.Config("", data="binary_digits", **SMALL)


def random_model(config, **changes):
  """(the model, random parameters)."""
  config = dataclasses.replace(config, **changes)
  model = sequences.make(config, datasets.load(config))
  return model, twins.randomise(jax.eval_shape(model.init, jax.random.key(0)))


@pytest.mark.parametrize("name", ["made", "nade", "transformer"])
def test_the_density_of_points_integrates_to_one(name):
  changes = dict(num_orders=2) if name == "made" else {}
  model, params = random_model(POINTS, model=name, **changes)
  points = datasets.load(POINTS).split("train")[0]
  center, half = points.mean(0), np.abs(points - points.mean(0)).max()
  sides = np.linspace(-2 * half, 2 * half, 121, dtype="float32")
  grid = np.stack(np.meshgrid(*[sides] * 2), -1).reshape(-1, 2) + center
  log_prob = jax.jit(jax.vmap(lambda x: model.log_prob(params, x, None)))
  density = np.exp(log_prob(grid), dtype="float64")
  assert (density == 0).any() and len(np.unique(density[density > 0])) > 5
  np.testing.assert_allclose(
    density.sum() * (sides[1] - sides[0]) ** 2, 1, rtol=0.05
  )


def test_points_stay_in_their_squares():
  points = datasets.load(POINTS).split("train")[0]
  codec = coding.of_points(points, 5)
  assert (codec.num_levels, codec.of) == (5, "density")
  levels = jax.vmap(codec.to_levels)(points)
  assert set(np.unique(levels)) <= {*range(5)} and len(np.unique(levels)) > 3
  keys = jax.random.split(jax.random.key(0), len(points))
  again = jax.vmap(codec.to_data)(keys, levels)
  np.testing.assert_array_equal(jax.vmap(codec.to_levels)(again), levels)
  side = 2 * 1.3 * np.abs(points - points.mean(0)).max() / 5
  assert np.abs(again - points).max() <= side * (1 + 1e-5)
  nats = codec.log_density(jnp.float32(-2.0), points[0])
  np.testing.assert_allclose(nats, -2 - 2 * math.log(side), rtol=1e-5)
  assert codec.log_density(jnp.float32(-2.0), points[0] + 99) == -np.inf


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("name", ["transformer", "gru", "pixelcnn"])
def test_a_pixels_distribution_does_not_see_what_comes_after(name, window):
  if name == "pixelcnn" and window:
    return
  model, params = random_model(IMAGES, model=name, window=window)

  @jax.jit
  def run(levels):
    return model.params(params, levels, 3, None)

  rng = np.random.default_rng(0)
  levels = rng.integers(0, 2, (8, 8, 1))
  start = run(levels).reshape(64)
  for i in (0, 17, 62):
    changed = levels.copy().reshape(64)
    changed[i] = 1 - changed[i]
    after = run(changed.reshape(8, 8, 1)).reshape(64)
    np.testing.assert_array_equal(after[: i + 1], start[: i + 1])
    assert (after[i + 1] != start[i + 1]).any()


def test_the_window_has_the_values_before_a_pixel():
  values = jnp.arange(1.0, 13.0)
  look = functools.partial(sequences.before_in_window, (3, 4, 1), 3)
  run = jax.jit(lambda i: look(values, i))
  np.testing.assert_array_equal(run(0), [0, 0, 0, 0])
  np.testing.assert_array_equal(run(6), [2, 3, 4, 6])
  np.testing.assert_array_equal(run(11), [7, 8, 0, 11])
  field = orders.receptive_field(jax.random.key(0), lambda x: look(x, 6), (12,))
  assert np.flatnonzero(field.any(0)).tolist() == [1, 2, 3, 5]


@pytest.mark.parametrize("window", [0, 5])
def test_cached_samples_are_those_of_full_evaluations(window):
  model, params = random_model(IMAGES, model="transformer", window=window)
  slow = model._replace(step=None, start=None)
  assert (model.num_calls, slow.num_calls) == (1, 64)

  def run(model):
    keys = jax.random.split(jax.random.key(0), 3)
    one = lambda key, label: model.sample(params, key, label)
    return jax.jit(jax.vmap(one))(keys, jnp.array([0, 4, 10]))

  fast, full = run(model), run(slow)
  np.testing.assert_array_equal(fast, full)
  assert set(np.unique(fast)) == {-1, 1} and fast.shape == (3, 8, 8, 1)


def test_outputs_follow_the_levels():
  name = lambda levels, **how: (
    sequences.make_output(
      dataclasses.replace(POINTS, **how), coding.of_images(levels)
    ).name
  )
  assert name(2) == "bernoulli" and name(17) == "categorical"
  assert name(256) == "logistic_mixture(5)"
  assert name(2, output="categorical") == "categorical"
  shape = lambda codec: codec.features(jnp.arange(2)).shape
  assert [shape(coding.of_images(n)) for n in (2, 17, 256)] == [
    *((2, 1), (2, 18), (2, 1))
  ]
  assert [shape(coding.of_tokens(n)) for n in (2, 256)] == [(2, 2), (2, 256)]
  tokens = dataclasses.replace(POINTS, output="logistic_mixture")
  with pytest.raises(ValueError, match=r"^output, codec: expected categorical"):
    sequences.make_output(tokens, coding.of_tokens(9))
  assert sequences.make_output(POINTS, coding.of_tokens(256)).name == (
    "categorical"
  )


@pytest.mark.parametrize(
  "config, changes, message",
  [
    (POINTS, dict(), "model, data: expected images for pixelcnn, got moons"),
    (POINTS, dict(model="gru", window=3), "window, model, data: expected 0"),
    (IMAGES, dict(window=3), "window, model, data: expected 0"),
    (IMAGES, dict(window=2), "window: expected 0 or an odd number"),
    (IMAGES, dict(model="nade", num_orders=2), "num_orders, model: expected 1"),
    (
      IMAGES,
      dict(data="digits", output="bernoulli"),
      "output, data: expected two levels for bernoulli, got 17 in digits",
    ),
    (IMAGES, dict(first_kernel=4), "first_kernel: expected an odd"),
    (IMAGES, dict(model="transformer", num_heads=3), "width, num_heads: exp"),
    (IMAGES, dict(model="mlp"), "model: expected one of made, nade"),
    (IMAGES, dict(width=0), "width: expected at least 1"),
    (POINTS, dict(model="made", num_bins=1), "num_bins: expected at least 2"),
    (IMAGES, dict(dropout=1.0), "dropout: expected 0 to below 1"),
  ],
)
def test_bad_settings(config, changes, message):
  bad = dataclasses.replace(config, **changes)
  expect.error(f"^{message}", autoregressive.experiment, bad)
