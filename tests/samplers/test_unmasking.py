"""Token solvers against their Markov chains, enumerated on six bits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import outputs, samplers, token_fields
from tests import bits
from tests.samplers import token_chains as chains

NUMBER = 6000


def field_of(table):
  return token_fields.from_params(bits.logits_fn(table), outputs.bernoulli())


def sample(solver, times, field=None, start=chains.START, seed=0):
  """Samples [NUMBER, 6]."""
  field = field_of(chains.TABLE) if field is None else field
  times, start = jnp.asarray(times, "float32"), jnp.asarray(start, "int32")
  one = lambda key: samplers.integrate(solver, field, start, times, key)
  return np.asarray(
    jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), NUMBER))
  )


def p_value(samples, chance):
  """Chi-squared of sampled token states against probabilities of all [729]."""
  counts = np.bincount(bits.index(samples), minlength=len(chance))
  assert counts[chance < 1e-12].sum() == 0
  order = np.argsort(chance)
  # States expected less than five times are counted together.
  groups = np.cumsum(chance[order] * NUMBER) // 5
  expected = np.bincount(groups.astype(int), chance[order]) * NUMBER
  found = np.bincount(groups.astype(int), counts[order])
  kept = expected > 1e-9
  statistic = ((found - expected)[kept] ** 2 / expected[kept]).sum()
  return stats.chi2.sf(statistic, kept.sum() - 1)


ORDER = np.array([4, 2, 0, 5, 1, 3])
SIX = np.linspace(1, 0, 7)
FOUR = np.cos(np.pi / 2 * np.linspace(0, 1, 5))
EACH = lambda n, hidden: hidden
NEXT = lambda n, hidden: hidden[hidden == ORDER[n]]
CHAINS = {
  "unmask": (samplers.unmask(), FOUR, chains.unmask_chain),
  "unmask to .3": (
    samplers.unmask(),
    np.array([0.9, 0.5, 0.3]),
    chains.unmask_chain,
  ),
  "remask": (
    samplers.unmask(0.7),
    FOUR,
    lambda times, **how: chains.unmask_chain(times, 0.7, **how),
  ),
  "confident": (samplers.confident(0.0), FOUR, chains.confident_chain),
  "one by one": (
    samplers.one_by_one(),
    SIX,
    lambda times, **how: chains.one_by_one_chain(EACH, **how),
  ),
  "in order": (
    samplers.in_order(ORDER),
    SIX,
    lambda times, **how: chains.one_by_one_chain(NEXT, **how),
  ),
}


@pytest.mark.parametrize(
  "start", [chains.START, chains.GIVEN], ids=["all", "given"]
)
@pytest.mark.parametrize("name", CHAINS)
def test_a_solver_samples_its_markov_chain(name, start):
  solver, times, chain = CHAINS[name]
  found = [sample(solver, times, start=start, seed=s) for s in (0, 1, 2)]
  chance = chain(times, start=start)
  np.testing.assert_allclose(chance.sum(), 1, rtol=1e-9)
  assert min(p_value(each, chance) for each in found) > 0.001
  kept = start != chains.MASK
  assert (found[0][:, kept] == start[kept]).all()
  assert found[0].dtype == np.int32


EXACT = {
  "one by one": (samplers.one_by_one(), SIX),
  "in order": (samplers.in_order(ORDER), SIX),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_conditionals_one_entry_a_step_sample_the_joint(name):
  joint = bits.joint()
  field = field_of(bits.conditionals(joint))
  chance = np.zeros(len(bits.TOKENS))
  chance[bits.index(bits.STATES)] = joint
  for seed in (0, 1, 2):
    found = sample(*EXACT[name], field, seed=seed)
    assert p_value(found, chance) > 0.001


def test_more_steps_of_random_unmasking_tend_to_the_joint():
  joint, table = bits.joint(), bits.conditionals(bits.joint())
  far = []
  for number in (2, 4, 8, 16):
    grid = np.linspace(1, 0, number + 1)
    chance = chains.unmask_chain(grid, table=table)
    far.append(np.abs(chance[bits.index(bits.STATES)] - joint).sum() / 2)
    if number in (2, 16):
      found = sample(samplers.unmask(), grid, field_of(table))
      assert p_value(found, chance) > 0.001
  print("total variation at 2, 4, 8, 16 steps", np.round(far, 4))
  assert (np.diff(far) < 0).all() and far[-1] < far[0] / 5


def test_guided_solvers_sample_the_chain_of_the_guided_table():
  weight = 1.7
  odds = lambda p: np.log(p / (1 - p))
  mixed = odds(chains.NULL) + weight * (odds(chains.TABLE) - odds(chains.NULL))
  table = 1 / (1 + np.exp(-mixed))
  field = token_fields.guided(
    field_of(chains.TABLE), field_of(chains.NULL), weight
  )
  chance = chains.unmask_chain(FOUR, table=table)
  for seed in (0, 1, 2):
    found = sample(samplers.unmask(), FOUR, field, seed=seed)
    assert p_value(found, chance) > 0.001


def test_noise_makes_confidence_the_random_choice():
  """At a huge temperature every entry is as likely to be kept as another."""
  times = np.array([1, 0.5, 0])
  found = sample(samplers.confident(1e6), times)
  chance = np.zeros(len(bits.TOKENS))
  half = chains.start_chance()
  after = np.zeros_like(half)
  for kept in itertools.combinations(range(6), 3):
    for values, c in chains.levels_of(
      chains.TABLE, bits.index(chains.START), kept
    ):
      new = chains.START.copy()
      new[list(kept)] = values
      after[bits.index(new)] += c / 20
  for row in np.flatnonzero(after):
    hidden = np.flatnonzero(bits.TOKENS[row] == chains.MASK)
    for values, c in chains.levels_of(chains.TABLE, row, hidden):
      new = bits.TOKENS[row].copy()
      new[hidden] = values
      chance[bits.index(new)] += after[row] * c
  assert p_value(found, chance) > 0.001


def test_jumps_from_uniform_noise_sample_their_chain():
  times, field = np.array([1, 0.6, 0.2, 0]), field_of(chains.TABLE)
  grid = jnp.asarray(times, "float32")

  def one(key):
    start_key, key = jax.random.split(key)
    start = jax.random.randint(start_key, (6,), 0, 2)
    return samplers.integrate(samplers.jump(), field, start, grid, key)

  many = jax.jit(jax.vmap(one))
  for seed in (0, 1, 2):
    found = np.asarray(many(jax.random.split(jax.random.key(seed), NUMBER)))
    assert p_value(found, chains.jump_chain(times)) > 0.001


def test_one_by_one_keeps_the_times_dtype():
  field = token_fields.TokenField(lambda x, t: jnp.zeros((6, 2)), 2)
  with jax.enable_x64(True):
    start, grid = jnp.full(6, 2, "int32"), jnp.asarray(SIX, "float32")
    key = jax.random.key(0)
    x = samplers.integrate(samplers.one_by_one(), field, start, grid, key)
  assert x.dtype == jnp.int32 and (x < 2).all()


def test_one_by_one_passes_the_time_of_the_entry():
  """The times are the order statistics of uniform numbers."""
  seen = []

  def log_probs(x, t):
    jax.debug.callback(lambda t: seen.append(float(t)), t)
    return jnp.log(jnp.full((6, 2), 0.5))

  field = token_fields.TokenField(log_probs, 2)
  start, grid = jnp.full(6, 2, "int32"), jnp.asarray(SIX, "float32")
  run = jax.jit(
    lambda key: samplers.integrate(
      samplers.one_by_one(), field, start, grid, key
    )
  )
  for seed in range(400):
    run(jax.random.key(seed)).block_until_ready()
  jax.effects_barrier()
  times = np.sort(np.reshape(seen, (400, 6)), 1)
  assert (np.diff(np.reshape(seen, (400, 6))) < 0).all()
  mean = np.arange(1, 7) / 7
  error = 4 * np.sqrt(mean * (1 - mean) / 8 / 400)
  np.testing.assert_allclose(times.mean(0), mean, atol=error.max())


BAD = {
  "remask": (lambda: samplers.unmask(1.5), "remask: expected 0 to 1, got 1.5"),
  "temperature": (
    lambda: samplers.confident(-1.0),
    "temperature: expected at least 0, got -1.0",
  ),
  "order": (
    lambda: samplers.in_order(np.array([0, 0])),
    "order: expected a permutation",
  ),
  "steps": (
    lambda: sample(samplers.in_order(ORDER), FOUR),
    "times: expected 6 steps, one an entry, got 4",
  ),
  "rates": (
    lambda: samplers.integrate(
      samplers.unmask(),
      field_of(chains.TABLE),
      jnp.asarray(chains.START),
      jnp.array([2.0, 0.0]),
      jax.random.key(0),
    ),
    "times: expected masking probabilities",
  ),
  "no token": (
    lambda: samplers.integrate(
      samplers.one_by_one(),
      field_of(chains.TABLE),
      jnp.asarray([0, 1, 2, 3, 2, 2]),
      jnp.asarray(SIX, "float32"),
      jax.random.key(0),
    ),
    "x: expected levels and the mask, 0 to 2, got 3",
  ),
  "narrow": (
    lambda: samplers.unmask().init(
      token_fields.TokenField(max, 256), None, jnp.zeros(6, "uint8"), None
    ),
    "x: expected a dtype that holds the mask, 256, got uint8",
  ),
  "increasing": (
    lambda: samplers.integrate(
      samplers.unmask(),
      field_of(chains.TABLE),
      jnp.asarray(chains.START),
      jnp.array([0.0, 1.0]),
      jax.random.key(0),
    ),
    "times: expected decreasing times, which unmask needs",
  ),
  "another size": (
    lambda: sample(
      samplers.unmask(),
      FOUR,
      token_fields.TokenField(lambda x, t: jnp.zeros((6, 3)), 2),
    ),
    r"field: expected log probabilities of shape \(6, 2\), got \(6, 3\)",
  ),
  "other levels": (
    lambda: token_fields.guided(
      field_of(chains.TABLE), token_fields.TokenField(lambda x, t: x, 3), 2.0
    ),
    "null_field: expected 2 levels, got 3",
  ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name):
  call, said = BAD[name]
  with pytest.raises(ValueError, match=said):
    call()


def test_guidance_keeps_impossible_levels_impossible():
  log_p = jnp.log(jnp.array([[0.5, 0.5, 0.0]]))
  null = jnp.log(jnp.array([[0.2, 0.4, 0.4]]))
  of = lambda table: token_fields.TokenField(lambda x, t: table, 3)
  x = jnp.zeros(1, "int32")
  for weight in (0.0, 0.5, 2.0):
    found = token_fields.guided(of(log_p), of(null), weight)(x, 0.0)
    p = np.exp(np.asarray(found))[0]
    one, zero = np.array([0.5, 0.5, 0]), np.array([0.2, 0.4, 0.4])
    expected = zero if weight == 0 else one**weight * zero ** (1 - weight)
    np.testing.assert_allclose(p, expected / expected.sum(), rtol=1e-5)
  # Where the null field alone is 0: 0 below w = 1, a factor of 1 above.
  only = jnp.log(jnp.array([[1.0, 0.0, 0.0]]))
  for weight, truth in ((0.5, [1, 0, 0]), (1.0, one), (2.0, [0.5, 0.5, 0])):
    found = token_fields.guided(of(log_p), of(only), weight)(x, 0.0)
    np.testing.assert_allclose(np.exp(found)[0], truth, atol=1e-6)
