"""Likelihoods by enumeration, parity of six bits, and what is rejected."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from jaxgen import orders, outputs
from jaxgen.losses import autoregressive
from jaxgen.models import made, nade
from tests import expect

BERNOULLI = outputs.bernoulli()
BITS = np.array(list(itertools.product(range(2), repeat=6)), "int32")


def linear(key, size=3, num_params=1):
  """A causal model of a sequence, from its weights."""
  weights = jax.random.normal(key, (size, num_params, size))
  weights = weights * np.tri(size, k=-1, dtype="float32")[:, None]
  return lambda x: jnp.einsum("ikj,j->ik", weights, x.astype("float32")) + 0.3


def chain(params_fn, levels):
  """The product of Bernoulli probabilities, one by one, in NumPy."""
  p = special.expit(np.float64(params_fn(jnp.asarray(levels)))[:, 0])
  return np.prod(np.where(np.asarray(levels) == 1, p, 1 - p))


def test_log_prob_is_the_chain_rules_product():
  params_fn = linear(jax.random.key(0))
  log_prob = lambda levels: autoregressive.log_prob(
    params_fn, levels, output=BERNOULLI
  )
  levels = jnp.array([[0, 1, 1], [1, 0, 0]])
  truth = [math.log(chain(params_fn, row)) for row in levels]
  found = expect.a_loop(log_prob, levels)
  np.testing.assert_allclose(found, truth, rtol=1e-6)
  np.testing.assert_allclose(log_prob(levels[0]), truth[0], rtol=1e-6)
  mean = autoregressive.negative_log_likelihood(
    params_fn, levels[0], output=BERNOULLI
  )
  np.testing.assert_allclose(mean, -truth[0] / 3, rtol=1e-6)


def test_any_order_of_an_image_sums_to_one():
  params_fn = linear(jax.random.key(0), 4, 3)
  every = itertools.product(range(3), repeat=4)
  images = jnp.array(list(every)).reshape(-1, 2, 2)
  output = outputs.categorical(3)

  @jax.jit
  @jax.vmap
  def log_prob(levels, order):
    arranged = orders.arrange(params_fn, order)
    return autoregressive.log_prob(arranged, levels, output=output)

  found = []
  for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
    same = jnp.broadcast_to(jnp.array(order), (len(images), 4))
    found.append(np.exp(log_prob(images, same), dtype="float64"))
    np.testing.assert_allclose(found[-1].sum(), 1, atol=1e-5)
  assert np.abs(found[0] - found[1]).max() > 1e-3


def test_an_ensemble_of_orders_is_the_mean_of_probabilities():
  params_fn = linear(jax.random.key(0))
  members = jnp.array([[0, 1, 2], [2, 1, 0], [1, 0, 2]])
  of_order = lambda levels, order: orders.arrange(params_fn, order)(levels)
  ensemble = lambda levels: autoregressive.ensemble_log_prob(
    of_order, levels, members, output=BERNOULLI
  )
  levels = jnp.array([[0, 1, 1], [1, 1, 0]])
  found = expect.a_loop(ensemble, levels)
  for row, value in zip(levels, found, strict=True):
    parts = [chain(orders.arrange(params_fn, o), row) for o in members]
    np.testing.assert_allclose(value, np.log(np.mean(parts)), rtol=1e-6)
    assert value >= np.mean(np.log(parts))


EVEN = BITS[BITS.sum(1) % 2 == 0]
NETS = {
  "nade": nade.NADE(6, 1, 1, width=32),
  "made": made.MADE(1, (96,)),
  "fvsbn": made.MADE(1, ()),
}


@pytest.mark.parametrize("name", NETS)
def test_parity_of_six_bits(name):
  """The entropy is 5 ln 2 = 3.466; without hidden units, 6 ln 2 = 4.159."""
  net = NETS[name]
  spins = lambda x: 2.0 * x[:, None] - 1
  optimizer = optax.adam(0.02)

  def loss(params):
    def one(levels):
      params_fn = lambda x: net.apply(params, spins(x))
      return autoregressive.log_prob(params_fn, levels, output=BERNOULLI)

    return -jax.vmap(one)(jnp.asarray(EVEN)).mean()

  @jax.jit
  def train(key):
    params = net.init(key, spins(jnp.asarray(EVEN[0])))

    def body(_, carry):
      params, state = carry
      slope = jax.grad(loss)(params)
      updates, state = optimizer.update(slope, state)
      return optax.apply_updates(params, updates), state

    start = params, optimizer.init(params)
    return loss(jax.lax.fori_loop(0, 800, body, start)[0])

  found, bits = train(jax.random.key(0)), 6 if name == "fvsbn" else 5
  # Never below the entropy but for rounding: that would be no distribution.
  assert bits * math.log(2) - 1e-5 < found < bits * math.log(2) + 4e-3


@pytest.mark.parametrize(
  "output",
  [BERNOULLI, outputs.categorical(2), outputs.logistic_mixture(2, 2)],
  ids=lambda output: output.name,
)
def test_losses_and_gradients_are_finite_at_logits_of_100(output):
  levels = jnp.array([0, 1, 1, 0])

  @jax.jit
  @jax.value_and_grad
  def loss(params):
    return autoregressive.negative_log_likelihood(
      lambda _: params, levels, output=output
    )

  signs = np.sign(np.random.default_rng(0).normal(size=(4, output.num_params)))
  for scale in (-100.0, 100.0):
    value, slope = loss(jnp.asarray(scale * signs, "float32"))
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_bad_levels_and_shapes():
  for call in (
    autoregressive.log_prob,
    autoregressive.negative_log_likelihood,
  ):
    fails = lambda said, fn, levels, output, call=call: expect.error(
      said, call, fn, jnp.array(levels), output=output
    )
    params_fn = linear(jax.random.key(0))
    said = "^levels: expected 0 to 1 for bernoulli, got 2$"
    fails(said, params_fn, [0, 2, 1], BERNOULLI)
    fails("^levels: expected 0 to 1.*got -1$", params_fn, [0, -1, 1], BERNOULLI)
    said = "^levels: expected integers, got float32$"
    fails(said, params_fn, [0.0, 0.5, 1.0], BERNOULLI)
    said = r"^params_fn: expected shape \(3, 3\) for categorical, got \(3, 1\)"
    fails(said, params_fn, [0, 2, 1], outputs.categorical(3))
  expect.error(
    "^levels: expected 0 to 1",
    autoregressive.ensemble_log_prob,
    lambda levels, member: levels,
    jnp.array([3]),
    jnp.arange(2),
    output=BERNOULLI,
  )


def test_traced_levels_out_of_range_are_nan():
  params_fn = lambda x: jnp.zeros((2, 1))
  run = jax.jit(
    lambda x: autoregressive.log_prob(params_fn, x, output=BERNOULLI)
  )
  assert np.isnan(run(jnp.array([0, 2])))
  np.testing.assert_allclose(run(jnp.array([0, 1])), -2 * math.log(2))
