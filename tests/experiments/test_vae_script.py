"""experiments.vae: its decoders, priors, bounds and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import vae
from experiments.experiment import Trained
from experiments.lib import datasets
from experiments.recipes import latent_bounds, latent_variables
from jaxgen.losses import variational
from tests import expect

BINARY = dict(data="binary_digits", likelihood="bernoulli")
POINTS = dict(data="eight_gaussians", likelihood="gaussian")


def config(**changes):
  small = dict(latent=2, width=8, num_blocks=1, num_weights=8)
  return vae.Config("", **small | changes)


def started(**changes):
  """(experiment, parameters, extras), none of the last layers 0."""
  ex = vae.experiment(config(**changes))
  key = jax.random.key(0)
  params = jax.tree.map(lambda p: p + 0.05, jax.jit(ex.players)(key))
  return ex, params, ex.extras(key)


def labelled():
  """The data with their labels, which a run may hide."""
  return datasets.load(config(**BINARY))


def loss_of(ex, params, extras, step=0):
  """The loss of a batch of 8: (value, (metrics, extras))."""
  batch = ex.batches(jax.random.key(1))(0)["model"]
  batch = jax.tree.map(lambda x: x[:8], batch)
  fn = jax.jit(ex.turns[0].loss_fn)
  return fn(params, extras, jax.random.key(2), batch, step)


@pytest.mark.parametrize(
  "changes",
  [
    dict(likelihood="categorical"),
    dict(likelihood="logistic_mixture", num_components=2),
    dict(likelihood="gaussian", std="per_coordinate", network="conv"),
    BINARY | dict(objective="iwae", num_draws=3, pseudo_inputs=4),
    BINARY | dict(network="conv", num_blocks=2, label_dropout=0.5),
    POINTS | dict(std="fixed", decoder_std=0.5, pseudo_inputs=3),
  ],
  ids=lambda c: "-".join(map(str, c.values())),
)
def test_losses_samples_and_codes(changes):
  ex, params, extras = started(**changes)
  value, (metrics, _) = loss_of(ex, params, extras)
  assert np.isfinite(value) and np.isfinite(metrics["kl"])
  label = 3 if ex.data.num_classes else None
  states, x = jax.jit(lambda k: ex.sample(params, extras, k, label))(
    jax.random.key(0)
  )
  assert states is None and x.shape == ex.data.shape
  if changes.get("likelihood") != "gaussian":
    levels = (np.asarray(x) + 1) / 2 * (ex.data.levels - 1)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
  z = ex.encode(params, extras, x, label)
  assert z.shape == (2,)
  assert ex.decode(params, extras, z, label).shape == x.shape
  bound = ex.log_likelihood.log_prob(
    params, extras, jax.random.key(3), x, label
  )
  assert bound.shape == () and np.isfinite(bound)
  assert ex.log_likelihood.kind == "lower bound"


def test_the_bound_at_the_start_is_that_of_independent_pixels():
  """All outputs are 0: every pixel has probability 1/2, and q is the prior."""
  ex = vae.experiment(config(**BINARY))
  params = jax.jit(ex.players)(jax.random.key(0))
  value, (metrics, _) = loss_of(ex, params, {})
  np.testing.assert_allclose(value, 64 * np.log(2), rtol=1e-5)
  np.testing.assert_allclose(metrics["kl"], 0, atol=1e-6)
  x = jnp.asarray(ex.data.real[0][0])
  bound = ex.log_likelihood.log_prob(params, {}, jax.random.key(0), x, None)
  np.testing.assert_allclose(bound, -64 * np.log(2), rtol=1e-5)


def test_the_weight_of_the_kl_grows_with_the_steps():
  ex, params, extras = started(**BINARY, beta=0.5, beta_steps=4)
  values = [loss_of(ex, params, extras, step)[0] for step in (0, 3, 9)]
  _, (metrics, _) = loss_of(ex, params, extras)
  # 1/8 of the KL at step 0, half of it from step 3 on.
  np.testing.assert_allclose(
    values[1] - values[0], (0.5 - 0.125) * metrics["kl"], rtol=1e-3
  )
  np.testing.assert_allclose(values[2], values[1], rtol=1e-6)


def test_free_bits_hide_a_small_kl():
  plain = started(**BINARY)
  free = started(**BINARY, free_bits=100.0)
  (value, (metrics, _)), (other, _) = loss_of(*plain), loss_of(*free)
  np.testing.assert_allclose(other, value + 200 - metrics["kl"], rtol=1e-5)


def test_the_calibrated_std_is_the_running_error():
  ex, params, extras = started(**POINTS, std="calibrated")
  value, (_, after) = loss_of(ex, params, extras)
  share = latent_variables.SHARE
  np.testing.assert_allclose(extras["square"], ex.data.std**2, rtol=1e-5)
  square = (after["square"] - (1 - share) * extras["square"]) / share
  # -E log p(x | z) is log(2 pi e square) for two coordinates, by batch.
  _, (metrics, _) = loss_of(ex, params, extras)
  distortion = value - metrics["kl"]
  np.testing.assert_allclose(
    distortion, np.log(2 * np.pi * square) + 1, rtol=1e-3
  )


def test_hidden_coordinates_reach_only_the_encoder():
  """With all but none hidden, q is that of an example of zeros."""
  ex, params, extras = started(**BINARY, hidden=1 - 1e-7)
  _, (metrics, _) = loss_of(ex, params, extras)
  model = latent_variables.make(config(**BINARY), labelled())
  q = model.posterior(params["model"], jnp.zeros(ex.data.shape), None)
  np.testing.assert_allclose(metrics["kl"], variational.kl(q).sum(), rtol=0.02)


def test_what_is_measured():
  """The bound of weighted samples lies above the ELBO; units are counted."""
  ex, params, extras = started(**BINARY, num_weights=32)
  now = Trained(params, {}, extras)
  record, text = ex.measure(now)
  assert record["number"] == len(ex.data.real[0]) == 180
  assert record["weighted_bound"] > record["elbo"]
  np.testing.assert_allclose(
    record["elbo"], record["reconstruction"] - record["kl"], rtol=1e-6
  )
  assert record["kl"] > 0 and len(record["kl_of_units"]) == 2
  assert "active units" in text and len(text.splitlines()) == 6
  model = latent_variables.make(ex.config, labelled())
  found = latent_bounds.held_out(ex.config, model, ex.data, now, 2)
  encode = lambda x: ex.encode(params, extras, x, None)
  means = jax.vmap(encode)(ex.data.real[0])
  np.testing.assert_allclose(found.means, means, atol=1e-5)
  np.testing.assert_allclose(
    found.variances, np.var(means, 0, ddof=1), rtol=1e-4
  )


def test_settings_that_do_not_fit_are_one_clear_line():
  call = lambda **changes: vae.experiment(config(**changes))
  digits = dict(data="digits")
  expect.error(
    "likelihood, data: expected data with 2 levels for bernoulli, got 17",
    call,
    **digits,
    likelihood="bernoulli",
  )
  for name in ("bernoulli", "categorical", "logistic_mixture"):
    said = "likelihood, data: expected gaussian for moons"
    expect.error(said, call, data="moons", likelihood=name)
  expect.error("num_components: expected", call, **digits, num_components=0)
  conv = dict(network="conv", num_blocks=4)
  expect.error("network, num_blocks, data: expected", call, **digits, **conv)
  expect.error(
    "network, data: expected mlp for points", call, **POINTS, network="conv"
  )
  for wrong in (dict(beta=2.0), dict(beta_steps=3), dict(free_bits=0.1)):
    said = "objective, beta, beta_steps, free_bits: expected elbo"
    expect.error(said, call, **digits, objective="dreg", **wrong)
  expect.error(
    "free_bits, pseudo_inputs: expected one",
    call,
    **digits,
    free_bits=0.1,
    pseudo_inputs=2,
  )
  for name in ("beta", "free_bits", "beta_steps", "pseudo_inputs"):
    expect.error(f"{name}: expected", call, **digits, **{name: -1})
  for name in ("dropout", "hidden"):
    expect.error(f"{name}: expected", call, **digits, **{name: 1.0})
  expect.error("decoder_std: expected", call, **POINTS, decoder_std=0.0)
  for name in ("latent", "width", "num_blocks", "num_draws", "num_weights"):
    expect.error(f"{name}: expected at least 1", call, **digits, **{name: 0})


def test_the_smallest_latent_has_a_plane():
  found = latent_bounds.Measured(
    4, 0.0, 0.0, np.array([1.0]), 0.0, 1, np.ones(1), np.arange(4.0)[:, None]
  )
  means, names = latent_bounds.plane(found)
  np.testing.assert_array_equal(means, [[0, 0], [1, 0], [2, 0], [3, 0]])
  assert names == ["coordinate 0, KL 1.00 nats", ""]
