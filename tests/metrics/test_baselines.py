"""Factorised densities, mixtures by EM and Chow-Liu trees on small grids."""

import itertools

import numpy as np
import pytest

from jaxgen.data import digits
from jaxgen.metrics import baselines
from tests import expect


def rng(seed=0):
  return np.random.default_rng(seed)


def states(num_levels, dim):
  """Every example, [L^D, D]."""
  return np.array([*itertools.product(range(num_levels), repeat=dim)])


def dependent(number, dim, num_levels, seed=0):
  """Data of a random distribution over all L^D examples."""
  every = states(num_levels, dim)
  p = rng(seed).dirichlet(np.full(len(every), 0.3))
  return every[rng(seed + 1).choice(len(every), number, p=p)]


def em(levels, num_levels, num_components, num_steps, count=0.5, seed=0):
  how = dict(pseudo_count=count, num_steps=num_steps)
  given = rng(seed), levels, num_levels, num_components
  return baselines.categorical_mixture(*given, **how)


FITS = {
  "factorised": lambda x, n: baselines.factorised(x, n, 0.5),
  "mixture": lambda x, n: em(x, n, 3, 10).density,
  "tree": lambda x, n: baselines.chow_liu(x, n, 0.5),
}
every_fit = pytest.mark.parametrize("fit", FITS.values(), ids=FITS)


@every_fit
@pytest.mark.parametrize("num_levels, dim", [(2, 4), (3, 3), (5, 1)])
def test_a_distribution_and_its_samples(fit, num_levels, dim):
  """Sums to one over all examples; samples have these frequencies."""
  density, every = (
    fit(dependent(50, dim, num_levels), num_levels),
    states(num_levels, dim),
  )
  log_p = density.log_prob(every)
  assert log_p.shape == (len(every),) and log_p.dtype == np.float64
  p = np.exp(log_p)
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-12)
  found = density.sample(rng(3), 20_000)
  assert found.shape == (20_000, dim) and found.dtype == np.int64
  code = found @ num_levels ** np.arange(dim)[::-1]
  counts = np.bincount(code, minlength=len(every))
  chi_squared = ((counts - 20_000 * p) ** 2 / (20_000 * p)).sum()
  freedom = len(every) - 1
  assert abs(chi_squared - freedom) < 5 * np.sqrt(2 * freedom)
  again = density.sample(rng(3), 20_000)
  np.testing.assert_array_equal(found, again)
  assert not np.array_equal(found, density.sample(rng(4), 20_000))


@pytest.mark.parametrize("name", ["factorised", "tree"])
def test_a_pseudo_count_is_uniform_examples(name):
  """c = 2 * 3^3 is the same as every example twice beside the data."""
  fit = dict(factorised=baselines.factorised, tree=baselines.chow_liu)[name]
  levels, every = dependent(40, 3, 3), states(3, 3)
  found = fit(levels, 3, 2.0 * len(every))
  more = fit(np.concatenate([levels, every, every]), 3, 1e-12)
  np.testing.assert_allclose(found.log_prob(every), more.log_prob(every))


def trees(dim):
  """The edges of all labelled trees, by their Pruefer codes."""
  for code in itertools.product(range(dim), repeat=dim - 2):
    degree, edges = np.bincount(code, minlength=dim) + 1, []
    for node in code:
      leaf = int(np.flatnonzero(degree == 1)[0])
      edges.append((leaf, node))
      degree[[leaf, node]] -= 1
    yield [*edges, tuple(np.flatnonzero(degree == 1).tolist())]


def log_tree(joint, edges):
  """log of prod_edges p(a, b) / prod_d p(d)^(degree - 1), on all examples."""
  dims, degree = range(joint.ndim), np.bincount(np.ravel(edges))
  keep = lambda *kept: joint.sum(
    tuple(d for d in dims if d not in kept), keepdims=True
  )
  pairs = sum(np.log(keep(*edge)) for edge in edges)
  return pairs - sum((degree[d] - 1) * np.log(keep(d)) for d in dims)


@pytest.mark.parametrize("num_levels, seed", [(2, 0), (2, 1), (2, 5), (3, 2)])
def test_the_best_of_all_trees(num_levels, seed):
  """All 16 trees of 4 variables, with marginals of the 4-D table."""
  levels, count = dependent(60, 4, num_levels, seed), 0.7
  joint = np.full((num_levels,) * 4, count / num_levels**4)
  np.add.at(joint, tuple(levels.T), 1)
  joint /= joint.sum()
  found = [log_tree(joint, edges) for edges in trees(4)]
  assert len(found) == 16
  values = np.array([(joint * log_p).sum() for log_p in found])
  best = np.sort(values)[::-1]
  assert best[0] - best[1] > 1e-4  # no tie
  density = baselines.chow_liu(levels, num_levels, count)
  log_p = density.log_prob(states(num_levels, 4))
  expected = found[values.argmax()].ravel()
  np.testing.assert_allclose(log_p, expected, rtol=1e-10)


def test_trees_of_independent_and_of_equal_coordinates():
  """Mutual information 0 for every pair, and the largest for every pair."""
  every = states(3, 4)
  found = baselines.chow_liu(every, 3, 1.0).log_prob(every)
  np.testing.assert_allclose(found, -4 * np.log(3))
  equal = np.repeat(np.arange(3)[:, None], 4, 1)
  density = baselines.chow_liu(np.repeat(equal, 10, 0), 3, 1e-9)
  np.testing.assert_allclose(density.log_prob(equal), -np.log(3), rtol=1e-6)


@pytest.mark.parametrize("count", [1e-9, 0.5, 20.0])
def test_em_increases_its_objective(count):
  levels = dependent(200, 6, 3)
  for seed in range(3):
    found = em(levels, 3, 5, 60, count, seed)
    assert found.objective.shape == found.log_likelihood.shape == (61,)
    steps = np.diff(found.objective)
    assert steps.min() > -1e-9 and steps[:5].min() > 0.1
    last = found.density.log_prob(levels).sum()
    np.testing.assert_allclose(found.log_likelihood[-1], last)
    if count == 1e-9:  # no prior
      assert np.diff(found.log_likelihood).min() > -1e-6


def test_the_log_likelihood_alone_may_decrease():
  """What EM increases has the prior, if there is one."""
  found = em(dependent(200, 6, 3), 3, 5, 60, 20.0)
  assert np.diff(found.log_likelihood).min() < -0.1


def test_em_by_loops():
  """Two steps, each sum written out."""
  levels, count, seed = dependent(12, 3, 3), 0.6, 4
  first = levels[rng(seed).choice(12, 2, replace=False)]
  p, w = np.empty((2, 3, 3)), np.array([0.5, 0.5])
  for k, d, a in np.ndindex(p.shape):
    marginal = (np.sum(levels[:, d] == a) + count / 3) / (12 + count)
    p[k, d, a] = (marginal + (first[k, d] == a)) / 2
  likelihood, objective = [], []
  for _ in range(3):
    r = np.empty((12, 2))
    for n, k in np.ndindex(r.shape):
      r[n, k] = w[k] * np.prod([p[k, d, levels[n, d]] for d in range(3)])
    likelihood.append(np.log(r.sum(1)).sum())
    objective.append(likelihood[-1] + count / 3 * np.log(p).sum())
    r, last = r / r.sum(1, keepdims=True), (w, p.copy())
    w = r.mean(0)
    for k, d, a in np.ndindex(p.shape):
      hits = r[levels[:, d] == a, k].sum()
      p[k, d, a] = (hits + count / 3) / (r[:, k].sum() + count)
  found = em(levels, 3, 2, 2, count, seed)
  np.testing.assert_allclose(found.log_likelihood, likelihood, rtol=1e-10)
  np.testing.assert_allclose(found.objective, objective, rtol=1e-10)
  x = states(3, 3)
  truth = (last[0] * last[1][:, [0, 1, 2], x].prod(2).T).sum(1)
  np.testing.assert_allclose(found.density.log_prob(x), np.log(truth))


def test_one_component_is_factorised_and_all_may_be_used():
  levels = dependent(30, 4, 2)
  one = em(levels, 2, 1, 1).density.log_prob(levels)
  plain = baselines.factorised(levels, 2, 0.5).log_prob(levels)
  np.testing.assert_allclose(one, plain)
  full = em(levels, 2, 30, 3).density.log_prob(levels)
  assert np.isfinite(full).all()


def test_figures_of_the_digits():
  """25.06, 20.78 and 17.87 nats; 2.422 and 2.196 bits/dim: measured before."""
  load = lambda split: digits.load(split)[0].reshape(-1, 64)
  train, test = (np.rint((load(s) + 1) * 8).astype(int) for s in PARTS)
  binary, held_out = train >= 8, test >= 8
  nats = lambda density: -density.log_prob(held_out).mean()
  bits = lambda density: -density.log_prob(test).mean() / (64 * np.log(2))
  plain = baselines.factorised(binary, 2, 0.1)
  assert nats(plain) == pytest.approx(25.06, abs=0.005)
  tree = baselines.chow_liu(binary, 2, 2.0)
  assert nats(tree) == pytest.approx(20.78, abs=0.005)
  mixture = em(binary, 2, 60, 40, 0.3)
  assert nats(mixture.density) == pytest.approx(17.87, abs=0.3)
  assert np.diff(mixture.objective).min() > 0
  plain = baselines.factorised(train, 17, 1.0)
  assert bits(plain) == pytest.approx(2.422, abs=0.001)
  mixture = em(train, 17, 20, 40, 4.0)
  assert bits(mixture.density) == pytest.approx(2.196, abs=0.05)
  assert np.diff(mixture.objective).min() > 0


PARTS = ("train", "test")


@every_fit
def test_bad_levels(fit):
  x = dependent(20, 3, 3)
  expect.error("levels: expected 0 to 2, got 0 to 3", fit, x + (x == 2), 3)
  expect.error("levels: expected 0 to 2, got -1 to 1", fit, x - 1, 3)
  expect.error("levels: expected integers, got float", fit, x / 1.0, 3)
  for empty in (x[:0], x[:, :0], x[0]):
    expect.error(r"levels: expected \[N, D\], not empty", fit, empty, 3)
  expect.error("num_levels: expected at least 2, got 1", fit, 0 * x, 1)
  log_prob = fit(x, 3).log_prob
  expect.error(r"levels: expected \[N, 3\], got \[20, 2\]", log_prob, x[:, :2])
  expect.error("levels: expected 0 to 2, got 7 to 9", log_prob, x + 7)
  expect.error("levels: expected integers", log_prob, x * 1.0)
  for kind in (np.uint8, np.int16):
    found = fit(x.astype(kind), 3).log_prob(x.astype(kind))
    np.testing.assert_array_equal(found, log_prob(x))


def test_bad_settings():
  x = dependent(20, 3, 3)
  for count in (0.0, -1.0, np.inf, np.nan):
    said = "pseudo_count: expected positive and finite"
    expect.error(said, baselines.factorised, x, 3, count)
    expect.error(said, baselines.chow_liu, x, 3, count)
    expect.error(said, em, x, 3, 2, 1, count)
  for number in (0, 21):
    said = f"num_components: expected at least 1 and at most 20, got {number}"
    expect.error(said, em, x, 3, number, 1)
  expect.error("num_steps: expected at least 1, got 0", em, x, 3, 2, 0)
