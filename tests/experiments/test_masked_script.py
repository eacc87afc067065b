"""The masked script: its draws, likelihoods, infilling, what it rejects."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import masked as script
from experiments.experiment import Trained
from experiments.lib import datasets
from experiments.recipes import unmasking
from jaxgen.losses import masked
from jaxgen.models import padded, unet
from tests import expect
from tests.models import twins

SMALL = dict(model="mlp", width=8, num_blocks=1)
BINARY = script.Config("", data="binary_digits", **SMALL)
POINTS = script.Config("", data="moons", num_bins=4, **SMALL)


def random_model(config, **changes):
  """(the model, random parameters)."""
  config = dataclasses.replace(config, **changes)
  model = unmasking.make(config, datasets.load(config))
  return model, twins.randomise(jax.eval_shape(model.init, jax.random.key(0)))


@pytest.mark.parametrize("u, number", [(1.0, 0), (0.74, 1), (0.01, 3)])
def test_a_number_of_entries_is_visible(u, number):
  """Of four entries, with weight 4 / (4 - number)."""
  visible, weight = unmasking.draw_visible(
    "number", jax.random.key(0), jnp.float32(u), jnp.zeros((2, 2), bool)
  )
  assert visible.shape == (2, 2) and int(visible.sum()) == number
  np.testing.assert_allclose(weight, 4 / (4 - number))


@pytest.mark.parametrize("how, weight", [("linear", 1 / 0.4), ("cosine", 2.16)])
def test_schedules_have_their_weight(how, weight):
  none = jnp.zeros(50, bool)
  draw = lambda key: unmasking.draw_visible(how, key, jnp.float32(0.4), none)
  visible, found = jax.vmap(draw)(jax.random.split(jax.random.key(0), 99))
  rate = {"linear": 0.6, "cosine": 1 - np.cos(0.3 * np.pi)}[how]
  np.testing.assert_allclose(visible.mean(), rate, atol=0.03)
  np.testing.assert_allclose(found, np.full(99, weight), rtol=2e-3)


def test_the_network_tells_masks_from_levels():
  model, _ = random_model(BINARY)
  features = model.features(jnp.array([0, 1, 2]))
  np.testing.assert_array_equal(features, [[-1, 0], [1, 0], [0, 1]])
  np.testing.assert_array_equal(model.values(jnp.arange(3)), [-1, 1, 0])


@pytest.mark.parametrize(
  "shape, kind", [((4, 6, 2), unet.UNet), ((5, 6, 1), padded.Padded)]
)
def test_the_unet_fits_the_image(shape, kind):
  """Odd sides are padded; every channel of a pixel has its distribution."""
  config = dataclasses.replace(BINARY, model="unet", num_blocks=2, num_heads=2)
  data = datasets.load(config)._replace(shape=shape)
  model = unmasking.make(config, data)
  assert model.net.shape == shape and model.net.width == 8
  assert isinstance(model.net.net, kind)
  net = getattr(model.net.net, "net", model.net.net)
  assert (net.width, net.num_blocks, net.num_heads) == (8, 2, 2)
  assert net.attention == (3,) and net.out_features == shape[-1]
  params = twins.randomise(jax.eval_shape(model.init, jax.random.key(0)))
  tokens = jnp.full(shape, 2, "int32")
  found = jax.jit(model.params_fn(params, 1))(tokens)
  assert found.shape == (*shape, 1) and found.dtype == jnp.float32


@pytest.mark.parametrize("num_orders", [0, 1, 3])
def test_points_have_probabilities_that_sum_to_one(num_orders):
  """Of a random order for the bound, and of mixtures of orders."""
  model, params = random_model(POINTS, num_orders=num_orders)
  codec = model.codec._replace(
    to_levels=lambda x: x, log_density=lambda nats, x: nats
  )
  model = model._replace(codec=codec)
  grid = jnp.array(list(itertools.product(range(4), repeat=2)))
  run = jax.jit(
    jax.vmap(lambda x: model.log_prob(params, jax.random.key(1), x, None))
  )
  np.testing.assert_allclose(np.exp(run(grid)).sum(), 1, rtol=1e-5)
  if num_orders == 3:
    of = lambda x, order: masked.order_log_prob(
      model.params_fn(params, None), x, order, output=model.output
    )
    each = [jax.vmap(lambda x, o=o: of(x, o))(grid) for o in model.orders]
    mean = np.mean(np.exp(each), 0)
    np.testing.assert_allclose(np.exp(run(grid)), mean, rtol=1e-5)


def test_given_halves_stay_in_infilling():
  model, params = random_model(BINARY, sample_steps=3)
  data = datasets.load(BINARY)
  view = lambda values, label: values
  images, columns = unmasking.fillings(model, data, params, view, 2)
  assert images.shape == (10, 4, 8, 8, 1) and len(columns) == 4
  real = data.real[0][:10]
  np.testing.assert_array_equal(images[:, 0], real)
  np.testing.assert_array_equal(images[:, 1, :4], real[:, :4])
  assert (images[:, 1, 4:] == 0).all()
  for column in (2, 3):
    np.testing.assert_array_equal(images[:, column, :4], real[:, :4])
    assert (np.abs(images[:, column, 4:]) == 1).all()


def test_an_untrained_network_fills_in_by_fair_coins():
  model, _ = random_model(BINARY)
  params = jax.jit(model.init)(jax.random.key(0))
  data = datasets.load(BINARY)
  found, text = unmasking.record(
    model, data, Trained({"model": params}, {}, {})
  )
  np.testing.assert_allclose(found["infilling"], np.log(2), rtol=1e-5)
  on = (data.split("train")[0] > 0).sum(0) + 1
  p = on / (1257 + 2)
  real = data.real[0] > 0
  nats = -np.log(np.where(real, p, 1 - p)).mean()  # of all entries
  np.testing.assert_allclose(found["marginals"], nats, rtol=0.03)
  assert found["number"] == 180 and "0.693" in text


@pytest.mark.parametrize("sampler", ["unmask", "confident", "one_by_one"])
def test_calls_are_the_steps(sampler):
  model, _ = random_model(BINARY, sampler=sampler, sample_steps=5)
  steps = 64 if sampler == "one_by_one" else 5
  assert len(model.times) == steps + 1 and model.solver.name == sampler
  assert model.times[0] == 1 and abs(model.times[-1]) < 1e-12


BAD = [
  (dict(remask=1.5), "remask: expected 0 to 1, got 1.5"),
  (dict(temperature=-1.0), "temperature: expected"),
  (dict(guidance=-1.0), "guidance: expected"),
  (dict(sample_steps=0), "sample_steps: expected at least 1, got 0"),
  (dict(num_orders=-1), "num_orders: expected at least 0, got -1"),
  (dict(dropout=1.0), "dropout: expected"),
  (dict(masking="square"), "masking: expected one of number, linear, cosine"),
  (dict(sampler="heun"), "sampler: expected one of unmask"),
  (dict(data="digits", output="bernoulli"), "output, data: expected two lev"),
  (
    dict(model="transformer", num_heads=3),
    "width, num_heads: expected a divisor of width 8, got 3",
  ),
  (dict(model="unet", num_heads=3), "width, num_heads: expected"),
  (dict(model="unet", width=9), "width: expected a multiple of 4"),
  (
    dict(model="unet", data="moons"),
    r"model, data: expected images for unet, got examples \[2\] of moons",
  ),
]


@pytest.mark.parametrize("changes, said", BAD)
def test_bad_settings_are_one_line(changes, said):
  config = dataclasses.replace(BINARY, **changes)
  expect.error(f"^{said}", script.experiment, config)
