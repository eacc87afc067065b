"""Masked models by enumeration of six bits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import masks, outputs
from jaxgen.losses import masked
from tests import bits

SUBSETS = np.array(list(itertools.product((False, True), repeat=6)))
BITS = outputs.bernoulli()


def cross_entropies(table):
  """Of all states and visible subsets, by the loss, [64, 64]."""
  with jax.enable_x64(True):
    fn = bits.logits_fn(table)
    one = lambda levels, visible: masked.cross_entropy(
      fn, levels, visible, output=BITS
    )
    each = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    return np.asarray(each(bits.STATES, SUBSETS))


@pytest.fixture(scope="module")
def case():
  """(the model's table, its cross entropies)."""
  table = bits.perturbed(bits.conditionals(bits.joint()))
  return table, cross_entropies(table)


def _nats(table, tokens, state):
  """-log P of each bit of a state, from the row of the tokens, [6]."""
  p = table[bits.index(tokens)]
  return -np.log(np.where(state == 1, p, 1 - p))


def _order_nats(table, state, order):
  """-log p of a state in one order, by the chain rule."""
  tokens, total = np.full(6, 2), 0.0
  for i in order:
    total += _nats(table, tokens, state)[i]
    tokens[i] = state[i]
  return total


@pytest.fixture(scope="module")
def any_order(case):
  """The mean of -log p over the 720 orders, of each state."""
  orders = list(itertools.permutations(range(6)))
  of = lambda state: np.mean([_order_nats(case[0], state, o) for o in orders])
  return np.array([of(state) for state in bits.STATES[:8]])


def test_the_cross_entropy_is_that_of_the_masked_bits(case):
  table, found = case
  for row, column in ((5, 3), (60, 62), (17, 0)):
    state, visible = bits.STATES[row], SUBSETS[column]
    nats = _nats(table, np.where(visible, state, 2), state)
    np.testing.assert_allclose(
      found[row, column], nats[~visible].sum(), rtol=1e-9
    )
  assert not found[:, -1].any()  # nothing is masked


SCHEDULES = [masks.linear, masks.cosine, masks.power(2.0)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_bound_of_every_schedule_is_the_mean_over_orders(
  case, any_order, schedule
):
  nodes, heights = np.polynomial.legendre.leggauss(60)
  t = (nodes + 1) / 2
  with jax.enable_x64(True):
    alpha = np.asarray(schedule(t))
    weight = np.asarray(jax.vmap(lambda t: masks.weight(schedule, t))(t))
  number = SUBSETS.sum(1)
  chance = alpha[:, None] ** number * (1 - alpha[:, None]) ** (6 - number)
  bound = case[1][:8] @ (chance * (weight * heights / 2)[:, None]).sum(0)
  np.testing.assert_allclose(bound, any_order, rtol=1e-9)


def test_a_uniform_number_of_entries_gives_the_same_bound(case, any_order):
  number = SUBSETS.sum(1)
  bound = 0
  for k in range(6):
    bound += case[1][:8, number == k].mean(1) / (6 - k)
  np.testing.assert_allclose(bound, any_order, rtol=1e-9)


def test_a_fixed_fraction_of_masks_bounds_no_likelihood():
  """BERT's loss of all entries is below the entropy, by the exact model."""
  probability = bits.joint()
  found = cross_entropies(bits.conditionals(probability))
  entropy = -(probability * np.log(probability)).sum()
  number = SUBSETS.sum(1)
  bound = sum(found[:, number == k].mean(1) / (6 - k) for k in range(6))
  np.testing.assert_allclose(probability @ bound, entropy, rtol=1e-6)
  some = number < 6
  chance = (0.85**number * 0.15 ** (6 - number))[some]
  means = found[:, some] / (6 - number[some])
  loss = probability @ means @ chance / chance.sum()
  assert 0.4 * entropy < 6 * loss < 0.8 * entropy


def test_one_order_is_the_chain_rule(case):
  order, state = np.array([3, 0, 5, 1, 4, 2]), bits.STATES[37]
  with jax.enable_x64(True):
    fn, levels = bits.logits_fn(case[0]), jnp.asarray(state)
    of = lambda skip: float(
      masked.order_log_prob(fn, levels, order, output=BITS, skip=skip)
    )
    found, late = of(0), of(4)
  np.testing.assert_allclose(
    -found, _order_nats(case[0], state, order), rtol=1e-9
  )
  tokens = np.full(6, 2)
  tokens[order[:4]] = state[order[:4]]
  first = _nats(case[0], tokens, state)[order[4]]
  tokens[order[4]] = state[order[4]]
  last = _nats(case[0], tokens, state)[order[5]]
  np.testing.assert_allclose(-late, first + last, rtol=1e-9)


def test_the_mean_input_is_what_a_linear_layer_expects():
  rng = np.random.RandomState(0)
  vectors, mask, layer = (
    jnp.asarray(rng.randn(*shape), "float32")
    for shape in ((3, 4), (4,), (12, 2))
  )
  rate, mean = 0.3, np.zeros(2)
  for hidden in itertools.product((False, True), repeat=3):
    chance = np.prod(np.where(hidden, rate, 1 - rate))
    seen = np.where(np.array(hidden)[:, None], mask, vectors)
    mean += chance * (seen.ravel() @ layer)
  found = masked.expected_input(vectors, mask, rate)
  assert found.shape == (3, 4) and found.dtype == jnp.float32
  np.testing.assert_allclose(found.ravel() @ layer, mean, rtol=1e-5)


def test_autoencoding_is_the_mean_over_masked_entries():
  data = jnp.arange(6.0).reshape(2, 3)
  visible = jnp.array([[True, False, True], [False, True, True]])
  seen = []

  def predict_fn(x, v):
    seen.append((np.asarray(x), np.asarray(v)))
    return jnp.ones_like(x)

  found = masked.autoencoding(predict_fn, data, visible)
  np.testing.assert_allclose(found, ((1 - 1) ** 2 + (1 - 3) ** 2) / 2)
  np.testing.assert_array_equal(seen[0][0], [[0, 0, 2], [0, 4, 5]])
  np.testing.assert_array_equal(seen[0][1], visible)
  whole = jnp.ones((2, 3), bool)
  assert float(masked.autoencoding(predict_fn, data, whole)) == 0


def test_losses_and_gradients_are_finite_at_large_logits():
  def loss(scale):
    fn = lambda tokens: scale * jnp.ones((6, 1))
    return masked.cross_entropy(
      fn, jnp.zeros(6, "int32"), jnp.zeros(6, bool), output=BITS
    )

  for scale in (100.0, -100.0):
    value, slope = jax.value_and_grad(loss)(scale)
    np.testing.assert_allclose(value, 600.0 if scale > 0 else 0, atol=1e-5)
    np.testing.assert_allclose(slope, 6.0 if scale > 0 else 0, atol=1e-5)


BAD = {
  "a mask in the data": (
    lambda fn: masked.cross_entropy(
      fn, jnp.full(6, 2), jnp.ones(6, bool), output=BITS
    ),
    "levels: expected 0 to 1 for bernoulli, got 2",
  ),
  "no integers": (
    lambda fn: masked.cross_entropy(
      fn, jnp.zeros(6), jnp.ones(6, bool), output=BITS
    ),
    "levels: expected integers, got float32",
  ),
  "another network": (
    lambda fn: masked.cross_entropy(
      lambda x: jnp.zeros((6, 2)),
      jnp.zeros(6, "int32"),
      jnp.ones(6, bool),
      output=BITS,
    ),
    r"params_fn: expected shape \(6, 1\) for bernoulli, got \(6, 2\)",
  ),
  "another order": (
    lambda fn: masked.order_log_prob(
      fn, jnp.zeros(6, "int32"), np.arange(5), output=BITS
    ),
    r"order: expected a permutation of 0, ..., 5, got shape \(5,\)",
  ),
  "no order": (
    lambda fn: masked.order_log_prob(
      fn, jnp.zeros(6, "int32"), np.zeros(6, int), output=BITS
    ),
    "order: expected a permutation",
  ),
  "too much skipped": (
    lambda fn: masked.order_log_prob(
      fn, jnp.zeros(6, "int32"), np.arange(6), output=BITS, skip=7
    ),
    "skip: expected 0 to 6, got 7",
  ),
  "other masks": (
    lambda fn: masked.autoencoding(fn, jnp.zeros(6), jnp.zeros(5, bool)),
    r"visible: expected shape \(6,\), got \(5,\)",
  ),
  "another prediction": (
    lambda fn: masked.autoencoding(
      lambda x, v: x[:5], jnp.zeros(6), jnp.zeros(6, bool)
    ),
    r"predict_fn: expected shape \(6,\), got \(5,\)",
  ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(case, name):
  call, said = BAD[name]
  with pytest.raises(ValueError, match=said) as error:
    call(bits.logits_fn(case[0]))
  assert "\n" not in str(error.value)
