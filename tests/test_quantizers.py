"""Quantisers against brute force and closed forms, on one example and many."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import quantizers
from tests import expect

LEVELS = (4, 3, 2)
GRID = np.array(
  [
    [2 * c / (n - 1) - 1 for c, n in zip(reversed(row), LEVELS, strict=True)]
    for row in itertools.product(*map(range, reversed(LEVELS)))
  ]
)


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def by_brute_force(z, codebook):
  """Indices of the least distances in float64, the lowest of equal ones."""
  gaps = np.float64(z)[..., None, :] - np.float64(codebook)
  return np.argmin((gaps**2).sum(-1), axis=-1)


QUANTIZERS = dict(
  nearest=lambda z: quantizers.nearest(z, normal(1, 5, 3)),
  fsq=lambda z: quantizers.fsq(jnp.tanh(z), LEVELS),
  lfq=quantizers.lfq,
  residual=lambda z: quantizers.residual(
    quantizers.nearest, z, normal(2, 2, 5, 3)
  ),
)
TRANSPORTS = quantizers.straight_through, quantizers.rotate


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_batch_is_a_loop_and_every_vector_is_on_its_own(name):
  def fn(z):
    found = QUANTIZERS[name](z)
    passed = [
      jax.value_and_grad(lambda z, pass_=pass_: jnp.sum(pass_(z, v) ** 3))(z)
      for pass_ in TRANSPORTS
      for v in [found.value]
    ]
    losses = [
      loss(z, found.value)
      for loss in (quantizers.codebook_loss, quantizers.commitment_loss)
    ]
    return found, passed, losses

  z = normal(0, 4, 2, 2, 3).at[0, 0, 0].set(0.0)
  found, passed, losses = rows = expect.a_loop(fn, z, rtol=1e-5, atol=1e-6)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rows))
  assert found.value.shape == z.shape and found.value.dtype == np.float32
  assert found.indices.dtype == np.int32
  assert found.indices.shape[-2:] == (2, 2) and losses[0].shape == (4, 2, 2)
  truth = np.sum((z - found.value) ** 2, axis=-1)
  expect.close(losses, [truth, truth], rtol=1e-5)
  for value, _ in passed:
    np.testing.assert_allclose(value, (found.value**3).sum((1, 2, 3)), 1e-5)
  one = QUANTIZERS[name](z[3, 1, 0])
  expect.close(one.value, found.value[3, 1, 0], rtol=1e-6)
  assert one.value.shape == (3,) and one.indices.shape[-1:] in ((), (2,))


def test_nearest_code():
  run = jax.jit(quantizers.nearest)
  for offset in (0.0, 1000.0):  # there |z|^2 has an error of .1 in float32
    z, codebook = normal(0, 8, 16, 4) + offset, normal(1, 7, 4) + offset
    codebook = codebook.at[2].multiply(0.1)  # one code is not with the others
    found = run(z, codebook)
    np.testing.assert_array_equal(found.indices, by_brute_force(z, codebook))
    np.testing.assert_array_equal(found.value, codebook[found.indices])
    assert len(np.unique(found.indices)) == (6 if offset else 7)
  again = run(jnp.stack([codebook] * 2)[:, None], codebook).indices
  np.testing.assert_array_equal(again[:, 0], [range(7)] * 2)


def test_ties_have_the_lowest_index():
  codebook = jnp.array([[3.0, 0], [1, 0], [-1, 0], [0, 1], [1, 0], [-3, 0]])
  z = jnp.array([[0.0, 0], [1, 0], [-1, 1], [2, 0], [0, -9]])
  found = quantizers.nearest(z, codebook)
  np.testing.assert_array_equal(found.indices, [1, 1, 2, 0, 1])


def test_of_half_precision():
  codebook = normal(1, 7, 4).astype("bfloat16")
  z = normal(0, 32, 4).astype("bfloat16")
  levels = (129, 2, 2, 2)

  @jax.jit
  def run(z, codebook):
    found, rounded = quantizers.nearest(z, codebook), quantizers.fsq(z, levels)
    return found, rounded, [f(z, rounded.value) for f in TRANSPORTS]

  found, rounded, passed = run(z, codebook)
  np.testing.assert_array_equal(found.indices, by_brute_force(z, codebook))
  truth = quantizers.fsq(z.astype("float32"), levels)
  np.testing.assert_array_equal(rounded.indices, truth.indices)
  for array in (found.value, rounded.value, *passed):
    assert array.dtype == jnp.bfloat16


@pytest.mark.parametrize("beta", [0.25, 4.0])
def test_gradients_of_the_published_loss(beta):
  """The codebook's has no beta, the encoder's in the commitment alone."""
  z, codebook, weight = normal(0, 6, 3), normal(1, 4, 3), normal(2, 6, 3)

  @jax.jit
  @jax.value_and_grad
  def loss(args):
    z, codebook = args
    value = quantizers.nearest(z, codebook).value
    decoded = quantizers.straight_through(z, value)
    return (
      jnp.sum(weight * decoded**2)
      + quantizers.codebook_loss(z, value).sum()
      + beta * quantizers.commitment_loss(z, value).sum()
    )

  total, (of_z, of_codebook) = jax.device_get(loss((z, codebook)))
  z, codebook, weight = map(np.float64, (z, codebook, weight))
  indices = by_brute_force(z, codebook)
  e = codebook[indices]
  truth = (weight * e**2).sum() + (1 + beta) * ((z - e) ** 2).sum()
  np.testing.assert_allclose(total, truth, rtol=1e-5)
  truth = 2 * weight * e + 2 * beta * (z - e)
  np.testing.assert_allclose(of_z, truth, rtol=1e-5, atol=1e-6)
  truth = np.zeros_like(codebook)
  np.add.at(truth, indices, 2 * (e - z))
  np.testing.assert_allclose(of_codebook, truth, rtol=1e-5, atol=1e-6)


def test_every_code_of_the_grid():
  """All prod L codes, each its own value; indices count the first fastest."""
  every = jnp.arange(24)
  codes = quantizers.fsq_values(every, LEVELS)
  np.testing.assert_allclose(codes, GRID, atol=1e-7)
  found = quantizers.fsq(codes, LEVELS)
  np.testing.assert_array_equal(found.indices, every)
  np.testing.assert_array_equal(found.value, codes)
  large = (1000, 2, 999, 1000)  # a product of almost 2^31
  ends = jnp.array([0, 1, 1000, 123456789, math.prod(large) - 1])
  codes = quantizers.fsq_values(ends.reshape(5, 1), large)
  assert codes.shape == (5, 1, 4) and np.abs(codes).max() == 1
  found = quantizers.fsq(codes, large)
  np.testing.assert_array_equal(found.indices[:, 0], ends)
  np.testing.assert_array_equal(found.value, codes)


def test_rounding_is_the_nearest_code_of_the_grid():
  z = np.array(1.5 * normal(0, 512, 3))
  z[:4] = [[0, 0, 0], [0.5, -0.5, 0], [0.75, 0.5, 1e-30], [9, -9, -9]]
  found = quantizers.fsq(jnp.asarray(z), LEVELS)
  places = [
    np.clip(np.ceil((n - 1) * (np.float64(x) + 1) / 2 - 0.5), 0, n - 1)
    for x, n in zip(z.T, LEVELS, strict=True)
  ]
  places[2][2] = 1
  truth = places[0] + 4 * places[1] + 12 * places[2]
  np.testing.assert_array_equal(found.indices, truth)
  by_search = quantizers.nearest(jnp.asarray(z[4:]), jnp.float32(GRID))
  np.testing.assert_array_equal(found.indices[4:], by_search.indices)
  np.testing.assert_allclose(found.value[4:], by_search.value, atol=1e-7)
  x = jnp.asarray(z)
  y = np.tanh(np.float64(z))  # the published rounding, of odd numbers of levels
  found = quantizers.fsq(jnp.tanh(x), (7, 5, 3))
  half = np.array([3, 2, 1])
  place = np.rint(y * half)
  np.testing.assert_array_equal(found.indices, (place + half) @ [1, 7, 35])
  np.testing.assert_allclose(found.value, place / half, atol=1e-7)


def test_gradient_of_rounding_is_that_of_the_bound():
  x = normal(0, 5, 3)

  def decoded(x):
    y = jnp.tanh(x)
    value = quantizers.fsq(y, LEVELS).value
    return jnp.sum(normal(1, 5, 3) * quantizers.straight_through(y, value))

  truth = normal(1, 5, 3) / np.cosh(x) ** 2
  np.testing.assert_allclose(jax.grad(decoded)(x), truth, rtol=1e-5)


def test_signs():
  z = normal(0, 64, 31).at[0].set(0.0).at[1].set(-0.0).at[2].set(1e-30)
  found = quantizers.lfq(z)
  bits = np.asarray(z) > 0
  np.testing.assert_array_equal(found.value, 2.0 * bits - 1)
  np.testing.assert_array_equal(found.indices, bits @ (1 << np.arange(31)))
  again = quantizers.fsq_values(found.indices, (2,) * 31)
  np.testing.assert_array_equal(again, found.value)


def test_stages_one_by_one():
  z, codebooks = normal(0, 64, 3), normal(1, 4, 16, 3)
  codebooks = codebooks / 2.0 ** jnp.arange(4)[:, None, None]
  codebooks = codebooks.at[:, 5].set(0.0)  # so that no stage adds an error
  found = jax.jit(quantizers.residual, static_argnums=0)(
    quantizers.nearest, z, codebooks
  )
  rest, total, before = np.float64(z), 0, np.inf
  for m, codebook in enumerate(np.float64(codebooks)):
    np.testing.assert_allclose(found.inputs[m], rest, atol=1e-6)
    indices = by_brute_force(rest, codebook)
    np.testing.assert_array_equal(found.indices[m], indices)
    np.testing.assert_allclose(found.codes[m], codebook[indices], rtol=1e-6)
    rest, total = rest - codebook[indices], total + codebook[indices]
    error = (rest**2).sum(-1)
    assert (error <= before).all() and np.mean(error < before) > 0.5
    before = error
  np.testing.assert_allclose(found.value, total, rtol=1e-5, atol=1e-6)


def test_each_stage_learns_by_itself():
  """Its codes move to its inputs; earlier codes have no part in it."""
  z, codebooks = normal(0, 6, 3), normal(1, 2, 4, 3)

  def loss(z, codebooks):
    found = quantizers.residual(quantizers.nearest, z, codebooks)
    losses = (
      jnp.sum(loss(found.inputs, found.codes))
      for loss in (quantizers.codebook_loss, quantizers.commitment_loss)
    )
    return tuple(losses), found

  slopes, found = jax.jit(jax.jacrev(loss, (0, 1), has_aux=True))(z, codebooks)
  gaps = found.inputs - found.codes
  truth = np.zeros_like(codebooks)
  for m in range(2):
    np.add.at(truth[m], found.indices[m], -2 * gaps[m])
  (to_z, to_codes), (from_z, from_codes) = slopes
  np.testing.assert_allclose(to_codes, truth, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(from_z, 2 * gaps.sum(0), rtol=1e-5, atol=1e-6)
  assert not to_z.any() and not from_codes.any()


def test_stages_of_a_grid():
  """Residual rounding: each stage is a grid of its own scale."""
  z = jnp.clip(normal(0, 32, 2), -1, 1)

  def scaled(z, scale):
    value, indices = quantizers.fsq(z / scale, (5, 5))
    return quantizers.Quantized(scale * value, indices)

  scales = jnp.array([1.0, 0.25, 0.0625])
  found = quantizers.residual(scaled, z, scales)
  np.testing.assert_allclose(found.value, np.rint(z * 32) / 32, atol=1e-6)


def test_bad_codebooks_and_levels():
  z = jnp.zeros((2, 3))
  for shape in ([4, 2], [0, 3], [3], [1, 4, 3]):
    said = rf"codebook: expected shape \[K, 3\] with K .*, got \[{shape[0]}"
    expect.error(said, quantizers.nearest, z, jnp.zeros(shape))
  said = r"codebook: expected shape \[K, 3\].* got \[4, 2\]"
  stages = jnp.zeros((2, 4, 2))
  expect.error(said, quantizers.residual, quantizers.nearest, z, stages)
  for levels in ((4, 3), (4, 3, 1), (4, 3, 0), (4, 3, 2.5), (4, 3, 2, 2), ()):
    said = "levels: expected 3 integers of at least 2, got"
    expect.error(said, quantizers.fsq, z, levels)
  said = "levels: expected a product of at most 2"
  expect.error(said, quantizers.fsq, z, (2**16, 2**15, 2))
  expect.error(said, quantizers.lfq, jnp.zeros(32))
  said = "levels: expected 2 integers of at least 2, got"
  expect.error(said, quantizers.fsq_values, jnp.zeros((), int), (4, 1))
