"""Codebooks against k-means of scikit-learn, sums in NumPy, enumeration."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats
from sklearn import cluster

from jaxgen import codebooks, quantizers
from tests import expect


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def step(statistics, codebook, z, decay, smoothing=0.0):
  indices = quantizers.nearest(z, codebook).indices
  statistics = codebooks.update(statistics, z, indices, decay)
  return statistics, codebooks.means(statistics, codebook, smoothing)


def test_without_memory_each_update_is_one_of_lloyds():
  data = jnp.concatenate([normal(0, 60, 2) + 3, normal(1, 140, 2)])
  found = data[:174:29]
  start, run = np.asarray(found), jax.jit(step)
  statistics = codebooks.start(found)
  for number in range(1, 6):
    statistics, found = run(statistics, found, data, 0.0)
    truth = cluster.KMeans(6, init=start, n_init=1, max_iter=number, tol=0)
    truth.fit(data)
    np.testing.assert_allclose(found, truth.cluster_centers_, rtol=1e-5)
    assert np.abs(found - start).max() > 0.05
  assert statistics.weight == 1 and statistics.counts.sum() == 200
  np.testing.assert_array_equal(
    quantizers.nearest(data, found).indices, truth.labels_
  )


def test_averages_from_zero_are_weighted_means():
  """In float64, of five sets; the first counts as fully as it should."""
  decay, smoothing, sets = 0.9, 0.3, normal(0, 5, 7, 3)
  codebook = normal(1, 4, 3)
  indices = np.array(jax.random.randint(jax.random.key(2), (5, 7), 0, 3))
  statistics = codebooks.start(codebook)
  update = jax.jit(codebooks.update)
  for n in range(1, 6):
    statistics = update(statistics, sets[n - 1], indices[n - 1], decay)
    found = codebooks.means(statistics, codebook, smoothing)
    weights = decay ** np.arange(n)[::-1]
    weights = weights / weights.sum()
    one = np.eye(4)[indices[:n]]
    counts = np.einsum("s,snk->k", weights, one)
    sums = np.einsum("s,snk,snd->kd", weights, one, np.float64(sets[:n]))
    smooth = 7 * (counts + smoothing) / (7 + 4 * smoothing)
    expect.close(statistics.weight, 1 - decay**n, rtol=1e-6)
    expect.close(statistics.counts / statistics.weight, counts, rtol=1e-5)
    used = counts > 0
    truth = np.where(used[:, None], sums / smooth[:, None], codebook)
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)
    assert not used[3]  # a code without vectors keeps its place
    exact = codebooks.means(statistics, codebook, 0.0)
    truth = sums[used] / counts[used][:, None]
    np.testing.assert_allclose(exact[used], truth, rtol=1e-5, atol=1e-6)


def test_statistics_of_nothing_change_no_code():
  codebook = normal(0, 4, 3).astype("bfloat16")
  statistics = codebooks.start(codebook)
  for leaf in statistics:
    assert leaf.dtype == jnp.float32 and not leaf.any()
  for smoothing in (0.0, 1e-5):
    found = codebooks.means(statistics, codebook, smoothing)
    assert found.dtype == codebook.dtype and (found == codebook).all()
  z = normal(1, 5, 3)

  def summed(z):
    new = codebooks.update(statistics, z, jnp.zeros(5, "int32"), 0.5)
    return jnp.sum(codebooks.means(new, codebook.astype("float32"), 0.0))

  assert not jax.grad(summed)(z).any()


def test_stages_and_batches_are_vmapped():
  z, tables = normal(0, 3, 8, 2), normal(1, 3, 4, 2)
  start = jax.vmap(codebooks.start)(tables)

  def one(weight, counts, sums, codebook, z):
    before = codebooks.Statistics(weight, counts, sums)
    return step(before, codebook, z, 0.5, 0.1)

  statistics, found = expect.a_loop(one, *start, tables, z)
  np.testing.assert_allclose(statistics.counts.sum(1), 4, rtol=1e-6)
  assert found.shape == tables.shape and (found != tables).any((1, 2)).all()


def test_dead_codes_restart_at_replacements():
  codebook, new = normal(0, 4, 3), normal(1, 4, 3)
  indices = jnp.array([0] * 6 + [1] * 2 + [3])
  z = normal(2, 9, 3)
  statistics = codebooks.update(codebooks.start(codebook), z, indices, 0.75)
  dead = np.array([False, False, True, True])  # fewer than two vectors
  restart = jax.jit(codebooks.restart)
  found, fresh = restart(codebook, statistics, new, 2.0)
  truth = np.where(dead[:, None], new, codebook)
  np.testing.assert_array_equal(found, truth)
  counts = np.array([6.0, 2, 2, 2])
  expect.close(fresh.counts / fresh.weight, counts, rtol=1e-6)
  kept = codebooks.means(fresh, found, 0.0)
  np.testing.assert_allclose(kept[dead], new[dead], rtol=1e-6)
  np.testing.assert_allclose(kept[0], z[:6].mean(0), rtol=1e-5)
  again, same = restart(found, fresh, new + 1, 1.999)
  np.testing.assert_array_equal(again, found)
  expect.close(same, fresh)


def test_usage_and_perplexity_by_hand():
  counts = jnp.bincount(jnp.array([0, 0, 3, 0, 1, 3, 0, 1]), length=5)
  assert codebooks.usage(counts) == np.float32(3 / 5)
  # Frequencies 1/2, 1/4, 1/4: H = 3/2 log 2.
  np.testing.assert_allclose(codebooks.perplexity(counts), 2**1.5, rtol=1e-6)
  both = jax.jit(lambda n: (codebooks.usage(n), codebooks.perplexity(n)))
  expect.close(both(0.3 * jnp.ones(7)), (1.0, 7.0), rtol=1e-6)
  expect.close(both(jnp.array([0, 9, 0])), (np.float32(1 / 3), 1.0), rtol=1e-6)


def test_first_codes_have_the_probabilities_of_k_means_plus_plus():
  data = np.array([[0.0, 0], [1, 0], [0, 2], [3, 3]], "float32")
  gaps = ((data[:, None] - data) ** 2).sum(-1)
  truth = {}
  for i, j, k in itertools.permutations(range(4), 3):
    second = gaps[i] / gaps[i].sum()
    nearer = np.minimum(gaps[i], gaps[j])
    truth[i, j, k] = second[j] * nearer[k] / nearer.sum() / 4
  number = 4096
  seeds = jax.random.split(jax.random.key(0), number)
  draw = lambda key: codebooks.kmeans_plus_plus(key, jnp.asarray(data), 3)
  found = np.asarray(jax.jit(jax.vmap(draw))(seeds))
  rows = (found[:, :, None] == data).all(-1)
  assert (rows.sum(-1) == 1).all()
  drawn = list(map(tuple, rows.argmax(-1)))
  counts = [drawn.count(each) for each in truth]
  expected = number * np.array(list(truth.values()))
  assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_as_many_first_codes_as_rows():
  data, key = normal(0, 6, 2), jax.random.key(1)
  found = np.asarray(codebooks.kmeans_plus_plus(key, data, 6))
  other = codebooks.kmeans_plus_plus(jax.random.key(2), data, 6)
  assert (found != other).any()
  assert sorted(map(tuple, found)) == sorted(map(tuple, np.asarray(data)))
  same = jnp.ones((3, 2))  # fewer distinct rows than codes
  assert (codebooks.kmeans_plus_plus(jax.random.key(3), same, 3) == 1).all()


def enumerated(z, temperature):
  """E H(q) and H(E q) with the softmax over all codes, in float64."""
  codes = np.array(list(itertools.product((-1, 1), repeat=z.shape[1])))
  gaps = ((np.float64(z)[:, None] - codes) ** 2).sum(-1)
  q = special.softmax(-gaps / temperature, axis=1)
  return special.entr(q).sum(1).mean(), special.entr(q.mean(0)).sum()


def test_entropies_by_enumeration():
  z = normal(0, 9, 6)
  z = z.at[:, 1].set(z[:, 0])  # so that bits of the mean are not independent
  run = jax.jit(codebooks.lfq_entropies, static_argnums=2)
  for temperature in (0.3, 5.0):
    (mean, joint), bounds = enumerated(z, temperature), []
    for size in (1, 3, 6):
      parts = [
        enumerated(z[:, i : i + size], temperature)[1]
        for i in range(0, 6, size)
      ]
      truth = codebooks.Entropies(mean, sum(parts))
      expect.close(run(z, temperature, size), truth, rtol=1e-5)
      assert sum(parts) >= joint * (1 - 1e-12)
      bounds.append(sum(parts))
    assert bounds[0] > bounds[-1] * (1 + 1e-4)  # of single bits, no equality
  eager = codebooks.lfq_entropies(z, 5.0, 1)
  expect.close(eager, run(z, 5.0, 1), rtol=1e-6)


def test_entropies_and_gradients_are_finite_at_every_scale():
  """At z = 0 each bit is even; far from it, each is certain."""
  run = jax.jit(
    jax.jacrev(lambda z: codebooks.lfq_entropies(z, 0.01, 4)),
  )
  value = jax.jit(lambda z: codebooks.lfq_entropies(z, 0.01, 4))
  for scale, truth in ((0.0, 4 * math.log(2)), (1e3, 0.0)):
    z = jnp.full((5, 4), scale)
    expect.close(tuple(value(z)), (truth, truth), rtol=1e-6, atol=1e-30)
    for slope in run(z):
      assert np.isfinite(slope).all() and np.abs(slope).max() <= 1e-5


def test_bad_input():
  codebook, z, indices = jnp.zeros((4, 3)), jnp.zeros((5, 3)), jnp.zeros(5, int)
  statistics = codebooks.start(codebook)
  for decay in (1.0, -0.1, math.nan, jnp.float32(1)):
    said = r"decay: expected a number in \[0, 1\), got "
    expect.error(said, codebooks.update, statistics, z, indices, decay)
  said = r"z: expected shape \[N, 3\], got \[5, 2\]"
  expect.error(said, codebooks.update, statistics, z[:, :2], indices, 0.9)
  said = r"indices: expected shape \[5\], got \[4\]"
  expect.error(said, codebooks.update, statistics, z, indices[:4], 0.9)
  said = "smoothing: expected at least 0, got -1"
  expect.error(said, codebooks.means, statistics, codebook, -1.0)
  said = r"replacements: expected shape \[4, 3\], got \[5, 3\]"
  expect.error(said, codebooks.restart, codebook, statistics, z, 1.0)
  said = "threshold: expected a positive number, got 0"
  expect.error(said, codebooks.restart, codebook, statistics, codebook, 0.0)
  key = jax.random.key(0)
  for number in (0, 6):
    said = f"num_codes: expected 1 to 5, got {number}"
    expect.error(said, codebooks.kmeans_plus_plus, key, z, number)
  said = "key: expected a typed key"
  legacy = jax.random.PRNGKey(0)
  expect.error(said, codebooks.kmeans_plus_plus, legacy, z, 2)
  for size in (0, 2, -1):
    said = f"group_size: expected a divisor of 3, got {size}"
    expect.error(said, codebooks.lfq_entropies, z, 1.0, size)
  said = "temperature: expected a positive number, got 0"
  expect.error(said, codebooks.lfq_entropies, z, 0.0, 3)
