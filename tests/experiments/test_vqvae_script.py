"""experiments.vqvae: tokens, codebooks, losses and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import vqvae
from experiments.experiment import Trained
from experiments.recipes import (
  bottlenecks,
  codec_measures,
  latents,
)
from jaxgen import codebooks, outputs, quantizers
from tests import expect
from tests.experiments.codec_cases import batch_of, config, started

RESIDUAL = dict(quantizer="residual", num_stages=3)
FSQ = dict(quantizer="fsq", levels=(3, 4))
LFQ = dict(quantizer="lfq", latent=6)


@pytest.mark.parametrize(
  "changes, kind",
  [
    ({}, (1, 5)),
    (dict(codebook="gradient", likelihood="logistic_mixture"), (1, 5)),
    (RESIDUAL, (3, 5)),
    (FSQ, (1, 12)),
    (LFQ, (1, 64)),
  ],
  ids=["vq", "gradient", "residual", "fsq", "lfq"],
)
def test_decoded_tokens_are_the_reconstruction(changes, kind):
  ex, codec, params, extras = started(**changes)
  num_stages, num_codes = kind

  @jax.jit
  @jax.vmap
  def both(x):
    tokens = ex.encode(params, extras, x, None)
    z = codec.features(params["model"], x)
    value = codec.quantise(codec.table(params["model"], extras), z).value
    direct = codec.decode(params["model"], value)
    if codec.output is not None:
      direct = outputs.mean(codec.output, direct)
    return tokens, ex.decode(params, extras, tokens, None), direct

  x = ex.data.real[0][:6]
  tokens, decoded, direct = both(x)
  assert tokens.shape == (6, num_stages, 4, 4) and tokens.dtype == jnp.int32
  assert tokens.min() >= 0 and tokens.max() < num_codes == codec.num_codes
  assert len(np.unique(tokens)) > 1
  assert decoded.shape == x.shape and np.ptp(decoded) > 0
  np.testing.assert_allclose(decoded, direct, atol=1e-6)
  bits = 16 * num_stages * np.log2(num_codes)
  assert codec_measures.size(codec) == f"{bits:.0f} bits"


def test_one_step_of_the_averages_by_hand():
  """A first update gives plain means, in each stage of what is left."""
  how = dict(restart=0.0, codebook_decay=0.9)
  ex, codec, params, extras = started(**RESIDUAL, **how)
  batch = batch_of(ex)["model"]
  fn = jax.jit(ex.turns[0].loss_fn)
  _, (metrics, after) = fn(params, extras, jax.random.key(2), batch, 0)
  left = jax.jit(jax.vmap(codec.features, (None, 0)))(params["model"], batch[0])
  left = np.asarray(left, np.float64).reshape(-1, 3)
  perplexities, commitments = [], []
  for stage, old in enumerate(np.asarray(extras["codebook"], np.float64)):
    squares = ((left[:, None] - old) ** 2).sum(-1)
    nearest = squares.argmin(1)
    start = codebooks.start(extras["codebook"][stage])
    z = jnp.asarray(left, jnp.float32)
    truth = codebooks.update(start, z, jnp.asarray(nearest), 0.9)._asdict()
    found = {name: after[name][stage] for name in truth}
    expect.close(found, truth, 1e-4, 1e-5)
    for n in range(5):
      mine = left[nearest == n]
      mean = mine.mean(0) if len(mine) else old[n]
      code = after["codebook"][stage, n]
      np.testing.assert_allclose(code, mean, rtol=1e-3, atol=1e-4)
    shares = np.bincount(nearest, minlength=5) / len(nearest)
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    perplexities.append(np.exp(entropy))
    commitments.append(squares.min(1).mean() / 3)
    left = left - old[nearest]
  for name, values in (
    ("perplexity", perplexities),
    ("commitment", commitments),
  ):
    np.testing.assert_allclose(metrics[name], np.mean(values), rtol=1e-4)


def test_the_first_step_takes_the_codes_from_the_batch():
  """They start at 0: one has all vectors, the others become some of them."""
  ex, codec, params, _ = started(**RESIDUAL)
  batch, extras = batch_of(ex)["model"], ex.extras(jax.random.key(0))
  np.testing.assert_array_equal(extras["codebook"], 0)
  fn = jax.jit(lambda key: ex.turns[0].loss_fn(params, extras, key, batch, 0))
  one, other = (fn(jax.random.key(n))[1][1]["codebook"] for n in (0, 1))
  features = jax.jit(jax.vmap(codec.features, (None, 0)))
  z = np.asarray(features(params["model"], batch[0])).reshape(-1, 3)
  for codes in np.concatenate([one, other]):
    np.testing.assert_allclose(codes[0], z.mean(0), rtol=1e-3, atol=1e-4)
    apart = np.abs(codes[1:, None] - z).max(-1)
    assert (apart.min(1) < 1e-5).all()
    assert len(np.unique(apart.argmin(1))) == 4
  assert np.abs(one - other).max() > 1e-3  # keys matter
  assert np.abs(one[0] - one[1]).max() > 1e-3  # as stages have their own


def test_a_codebook_by_gradient_starts_at_features():
  """Of the encoder at step 0: no stage loses more than the one before."""
  settings = config(codebook="gradient", **RESIDUAL)
  codec = vqvae.make_codec(settings, vqvae.experiment(settings).data)
  params = jax.jit(codec.init)(jax.random.key(0))
  x = jnp.asarray(codec.first)
  z = jax.jit(jax.vmap(codec.features, (None, 0)))(params, x).reshape(-1, 3)
  codes = params["codebook"]
  assert codes.shape == (3, 5, 3) and len(z) == 64
  apart = np.abs(codes[0][:, None] - z[None]).max(-1).min(1)
  assert (apart < 1e-5).all()
  found = quantizers.residual(quantizers.nearest, z, codes)
  left = np.square(found.inputs).sum(-1).mean(-1)
  assert (np.diff(left) < 0).all()


def test_beta_does_not_reach_the_codebook():
  """Its gradient is that of its own term: no decoder, no beta."""
  ex, codec, params, extras = started(codebook="gradient", beta=3.0)
  batch = batch_of(ex)["model"]
  assert extras == {}

  @jax.jit
  def run(params):
    fn = jax.value_and_grad(ex.turns[0].loss_fn, has_aux=True)
    found = fn(params, extras, jax.random.key(0), batch, 0)
    features = jax.vmap(codec.features, (None, 0))
    return found, features(params["model"], batch[0]).reshape(-1, 3)

  ((value, (metrics, _)), grads), z = run(params)
  codes = np.asarray(params["model"]["codebook"][0])
  nearest = ((np.asarray(z)[:, None] - codes) ** 2).sum(-1).argmin(1)
  truth = np.zeros_like(codes)
  np.add.at(truth, nearest, 2 * (codes[nearest] - z) / z.size)
  np.testing.assert_allclose(
    grads["model"]["codebook"][0], truth, rtol=1e-3, atol=1e-5
  )
  # Both terms have one value.
  total = metrics["distortion"] + (3 + 1) * metrics["commitment"]
  np.testing.assert_allclose(value, total, rtol=1e-5)


@pytest.mark.parametrize(
  "changes",
  [FSQ, LFQ | dict(transport="rotate"), dict(likelihood="categorical")],
  ids=["fsq", "lfq", "categorical"],
)
def test_losses_are_the_sum_of_their_parts(changes):
  ex, codec, params, extras = started(**changes)
  batch = batch_of(ex)["model"]
  fn = jax.jit(ex.turns[0].loss_fn)
  value, (metrics, after) = fn(params, extras, jax.random.key(0), batch, 0)
  truth = metrics["distortion"]
  if changes != FSQ:
    truth = truth + 0.25 * metrics["commitment"]
  if "latent" in changes:
    z = jax.vmap(codec.features, (None, 0))(params["model"], batch[0])
    parts = codebooks.lfq_entropies(z.reshape(-1, 6), 1.0, 6)
    truth = truth + 0.1 * (parts.mean - parts.of_mean)
  np.testing.assert_allclose(value, truth, rtol=1e-5)
  assert after.keys() == extras.keys()


def test_what_is_measured():
  ex, _, params, extras = started()
  record, text = ex.measure(Trained(params, {}, extras))
  assert record["latent"] == [1, 4, 4] and record["num_codes"] == 5
  np.testing.assert_allclose(record["bits_per_image"], 16 * np.log2(5))
  x = ex.data.real[0]
  tokens = jax.jit(jax.vmap(lambda x: ex.encode(params, extras, x, None)))(x)
  made = jax.jit(jax.vmap(lambda t: ex.decode(params, extras, t, None)))(tokens)
  found = record["validation"]
  assert found["number"] == len(x) == 180
  np.testing.assert_allclose(
    found["squared_error"], np.mean((made - x) ** 2), rtol=1e-5
  )
  shares = np.bincount(np.ravel(tokens), minlength=5) / tokens.size
  assert found["usage"] == pytest.approx([np.mean(shares > 0)])
  entropy = -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))
  np.testing.assert_allclose(found["perplexity"], [np.exp(entropy)], rtol=1e-5)
  assert record["train"]["number"] == 1257 and len(text.splitlines()) == 3


def test_interpolations_take_the_tokens_of_one_or_the_other():
  a, b = jnp.zeros((2, 2, 3), "int32"), jnp.ones((2, 2, 3), "int32")
  counts = [int(latents.crossed(a, b, w).sum()) for w in np.linspace(0, 1, 7)]
  assert counts == [0, 2, 4, 6, 8, 10, 12]
  half = latents.crossed(a, b, 0.5)
  np.testing.assert_array_equal(half, [[[1, 1, 1], [0, 0, 0]]] * 2)


def test_settings_that_do_not_fit_are_one_clear_line():
  call = lambda **changes: vqvae.experiment(config(**changes))
  said = "num_codes, batch_size, accumulate, factor: expected .*, 64, got 65"
  expect.error(said, call, num_codes=65)
  said = "vectors, 32, got 33"
  expect.error(said, call, num_codes=33, accumulate=2)
  expect.error("factor, data: expected .* multiples of 16", call, factor=16)
  expect.error("factor: expected a power of 2, got 3", call, factor=3)
  for quantizer in ("fsq", "vq"):  # which has none
    said = r"levels: expected integers of at least 2, got \[1, 5\]"
    expect.error(said, call, quantizer=quantizer, levels=(1, 5))
  for levels in ((), (2**11, 2**10)):
    said = "levels: expected one number or more"
    expect.error(said, call, **FSQ | dict(levels=levels))
  said = "latent: expected at most 20 bits for lfq, got 21"
  expect.error(said, call, quantizer="lfq", latent=21)
  expect.error("data: expected images, got moons", call, data="moons")
  said = "likelihood, data: expected data with 2 levels"
  expect.error(said, call, likelihood="bernoulli")
  for name in ("codebook_decay", "restart"):
    expect.error(f"{name}: expected 0 to below 1", call, **{name: 1.0})
  for name in ("beta", "entropy", "kl_weight"):
    expect.error(f"{name}: expected", call, **{name: -1.0})
  expect.error("temperature: expected a positive", call, temperature=0.0)
  counts = "num_codes num_stages latent factor width num_blocks num_components"
  for name in counts.split():
    expect.error(f"{name}: expected at least 1", call, **{name: 0})


def test_groups_of_bits_divide_them():
  found = [bottlenecks.entropy_group(bits) for bits in (1, 6, 8, 9, 13, 16)]
  assert found == [1, 6, 8, 3, 1, 8]
