"""Score entropy by enumeration of two entries with three states."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import masks, outputs
from jaxgen.losses import discrete, masked

STATES = np.array(list(itertools.product(range(3), repeat=2)))  # [9, 2]
UNIFORM = np.full(3, 1 / 3)
SKEWED = np.array([0.5, 0.2, 0.3])
# Two levels and the mask.
ABSORBING = np.array([0.0, 0.0, 1.0])
KEEP = 0.6


def data_of(noise):
  """Probabilities of the nine states; the mask is none of the data."""
  chance = np.random.RandomState(0).dirichlet(np.ones(9))
  if noise is ABSORBING:
    chance = np.where((STATES == 2).any(1), 0, chance)
  return chance / chance.sum()


def kernel(keep, noise):
  """p(y | data) of one entry, [3, 3]."""
  return keep * np.eye(3) + (1 - keep) * noise[None]


def joint(data, keep, noise):
  """p(data, x_t), [9, 9]."""
  one = kernel(keep, noise)
  both = one[STATES[:, None, 0], STATES[None, :, 0]]
  return data[:, None] * both * one[STATES[:, None, 1], STATES[None, :, 1]]


def exact_ratios(data, keep, noise):
  """p_t(x with y in entry i) / p_t(x), [9, 2, 3]; 1 where x is impossible."""
  p = joint(data, keep, noise).sum(0)
  found = np.ones((9, 2, 3))
  for row, i, y in itertools.product(range(9), range(2), range(3)):
    x = STATES[row].copy()
    x[i] = y
    if p[row] > 0:
      found[row, i, y] = p[x[0] * 3 + x[1]] / p[row]
  return found


def losses(log_s, keep, noise):
  """The score entropies of all data and noised states, [9, 9]."""

  def one(levels, x_t):
    # An impossible pair, which counts nothing, is replaced by a possible one.
    both = jnp.asarray(kernel(keep, noise))[levels, x_t]
    x_t = jnp.where(both.min() > 0, x_t, levels)
    fn = lambda x: log_s[x[0] * 3 + x[1]]
    return discrete.score_entropy(fn, levels, x_t, keep, noise)

  states = jnp.asarray(STATES)
  return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(states, states)


CASES = {"uniform": UNIFORM, "skewed": SKEWED, "absorbing": ABSORBING}


@pytest.mark.parametrize("name", CASES)
def test_the_optimum_is_the_exact_ratio(name):
  noise, data = CASES[name], data_of(CASES[name])
  weight = joint(data, KEEP, noise)
  with jax.enable_x64(True):
    possible = jnp.asarray(weight > 0)

    def expected(log_s):
      each = losses(log_s, KEEP, noise)
      return jnp.where(possible, weight * each, 0).sum()

    run = jax.jit(jax.value_and_grad(expected))
    s = exact_ratios(data, KEEP, noise)
    best, slope = run(jnp.log(jnp.where(s > 0, s, 1e-300)))
    np.testing.assert_allclose(slope, np.zeros_like(s), atol=1e-12)
    for seed in range(3):
      far = s * np.exp(np.random.RandomState(seed).normal(0, 0.3, s.shape))
      assert run(jnp.log(jnp.where(s > 0, far, 1e-300)))[0] > best + 1e-4


@pytest.mark.parametrize("name", CASES)
def test_exact_ratios_make_the_bound_the_entropy(name):
  """-E log p(data) = the integral over sigma + KL(p(x_T | data), p_T)."""
  noise, data = CASES[name], data_of(CASES[name])
  nodes, heights = np.polynomial.legendre.leggauss(48)
  ends = np.log([1e-9, 12.0])  # of sigma, whose log is the variable
  sigma = np.exp((nodes + 1) / 2 * np.diff(ends) + ends[0])
  total = 0.0
  with jax.enable_x64(True):
    run = jax.jit(losses)
    for s, height in zip(sigma, heights, strict=True):
      keep = np.exp(-s)
      log_s = np.log(np.maximum(exact_ratios(data, keep, noise), 1e-300))
      weight = joint(data, keep, noise)
      each = np.where(weight > 0, np.asarray(run(log_s, keep, noise)), 0)
      total += (weight * each).sum() * s * height * np.diff(ends)[0] / 2
  weight = joint(data, np.exp(-12.0), noise)
  end = weight.sum(0)
  safe = np.where(weight > 0, weight, 1)
  rest = np.where(end > 0, data[:, None] * end, 1)
  kl = np.where(
    weight > 0, weight * np.log(safe / np.where(rest > 0, rest, 1)), 0
  )
  p = data[data > 0]
  entropy = -(p * np.log(p)).sum()
  np.testing.assert_allclose(total + kl.sum(), entropy, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_ratios_come_from_the_posterior(name):
  noise, data = CASES[name], data_of(CASES[name])
  both = joint(data, KEEP, noise)
  truth = exact_ratios(data, KEEP, noise)
  with jax.enable_x64(True):
    run = jax.jit(discrete.posterior_ratios)
    for row in np.flatnonzero(both.sum(0)):
      posterior = both[:, row] / both[:, row].sum()
      table = np.stack(
        [np.bincount(STATES[:, i], posterior, 3) for i in range(2)]
      )
      with np.errstate(divide="ignore"):
        log_p = np.log(table)
      found = run(jnp.asarray(log_p), jnp.asarray(STATES[row]), KEEP, noise)
      jumps = noise[STATES[row]] > 0
      np.testing.assert_allclose(
        np.exp(found)[jumps], truth[row][jumps], rtol=1e-10
      )


def test_absorbing_noise_is_the_bound_of_masked_models():
  levels, visible = jnp.array([1, 0, 1]), jnp.array([False, True, False])
  logits = jnp.array([[0.3], [1.0], [-2.0]])
  x_t = masks.hide(levels, visible, 2)
  table = outputs.table(outputs.bernoulli(), logits)
  scale = jnp.log(KEEP / (1 - KEEP))
  log_s = jnp.concatenate([table + scale, jnp.zeros((3, 1))], -1)
  found = discrete.score_entropy(lambda x: log_s, levels, x_t, KEEP, ABSORBING)
  nats = masked.cross_entropy(
    lambda x: logits, levels, visible, output=outputs.bernoulli()
  )
  np.testing.assert_allclose(found, KEEP / (1 - KEEP) * nats, rtol=1e-5)
  assert found.dtype == jnp.float32 and found.shape == ()


def test_replaced_states_have_the_kernels_distribution():
  levels = jnp.array([0, 2], "int32")
  draw = lambda key: masks.replace(key, levels, KEEP, SKEWED)
  found = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 20000))
  assert found.shape == (20000, 2) and found.dtype == jnp.int32
  truth = kernel(KEEP, SKEWED)[levels]
  share = np.stack([np.bincount(found[:, i], minlength=3) for i in range(2)])
  np.testing.assert_allclose(share / 20000, truth, atol=0.015)
  with pytest.raises(ValueError, match="key"):
    masks.replace(jax.random.PRNGKey(0), levels, KEEP, SKEWED)


LEVELS = jnp.zeros(2, "int32")
BAD = {
  r"log_ratios_fn: expected shape \(2, 3\), got \(2, 4\)": lambda: (
    discrete.score_entropy(
      lambda x: jnp.zeros((2, 4)), LEVELS, LEVELS, KEEP, UNIFORM
    )
  ),
  r"x_t: expected shape \(2,\), got \(3,\)": lambda: discrete.score_entropy(
    lambda x: jnp.zeros((3, 3)), LEVELS, jnp.zeros(3, "int32"), KEEP, UNIFORM
  ),
  "noise: expected probabilities": lambda: discrete.score_entropy(
    lambda x: jnp.zeros((2, 3)), LEVELS, LEVELS, KEEP, 2 * UNIFORM
  ),
  r"log_probs: expected shape \(2, 3\), got \(2, 2\)": lambda: (
    discrete.posterior_ratios(jnp.zeros((2, 2)), LEVELS, KEEP, UNIFORM)
  ),
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input_is_one_line(said):
  with pytest.raises(ValueError, match=said):
    BAD[said]()
