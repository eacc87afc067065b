"""The bottleneck of Gaussian latents in experiments.vqvae: KL and measures."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.experiment import Trained
from jaxgen import outputs
from tests.experiments.codec_cases import batch_of, started

GAUSSIAN = dict(quantizer="gaussian", latent=2, kl_weight=0.3)


def test_gaussian_latents_and_their_loss_by_hand():
  """SciPy's KL of every coordinate; in training the decoder gets a sample."""
  ex, codec, params, extras = started(**GAUSSIAN, likelihood="categorical")
  x, key = jnp.asarray(batch_of(ex)["model"][0]), jax.random.key(5)
  assert extras == {} and ex.num_codes is None

  @jax.jit
  def run(params):
    loss = ex.turns[0].loss_fn(params, extras, key, (x, None), 0)
    mean, log_std = jax.vmap(codec.posterior, (None, 0))(params["model"], x)
    noise = jax.random.normal(jax.random.clone(key), mean.shape)
    z = mean + jnp.exp(log_std) * noise
    images = outputs.mean(codec.output, codec.decode(params["model"], mean[0]))
    samples = jnp.stack([codec.decode(params["model"], one) for one in z])
    cost = jax.vmap(codec.distortion)(samples, x)
    latent = ex.encode(params, extras, x[0], None)
    made = ex.decode(params, extras, latent, None)
    return loss, (mean, log_std), (images, made), (latent, cost)

  (value, (metrics, _)), (mean, log_std), (image, made), rest = run(params)
  latent, cost = rest
  assert latent.shape == (4, 4, 2) and latent.dtype == jnp.float32
  np.testing.assert_array_equal(latent, mean[0])
  np.testing.assert_allclose(made, image, atol=1e-6)
  expected = kl_by_quadrature(np.ravel(mean), np.exp(np.ravel(log_std)))
  np.testing.assert_allclose(metrics["kl"], expected.sum() / 4, rtol=1e-4)
  np.testing.assert_allclose(metrics["distortion"], cost.mean(), rtol=1e-5)
  total = cost.mean() + 0.3 * expected.sum() / 4 / 64
  np.testing.assert_allclose(value, total, rtol=1e-5)


def kl_by_quadrature(means, stds):
  """E_q(log q - log p), for which Gauss-Hermite quadrature is exact."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(8)
  means, stds = (np.float64(a)[:, None] for a in (means, stds))
  x = means + stds * nodes
  ratios = stats.norm.logpdf(x, means, stds) - stats.norm.logpdf(x)
  return ratios @ weights / weights.sum()


def test_what_is_measured_of_gaussian_latents():
  ex, codec, params, extras = started(**GAUSSIAN)
  record, text = ex.measure(Trained(params, {}, extras))
  assert record["latent"] == [4, 4, 2] and "num_codes" not in record
  x, found = ex.data.real[0], record["validation"]

  @jax.jit
  @jax.vmap
  def run(x):
    q = codec.posterior(params["model"], x)
    return q, codec.decode(params["model"], q.mean)

  q, made = run(x)
  np.testing.assert_allclose(
    found["squared_error"], np.mean((made - x) ** 2), rtol=1e-5
  )
  means = np.float64(q.mean).reshape(len(x), -1)
  kl = kl_by_quadrature(np.ravel(q.mean), np.exp(np.ravel(q.log_std)))
  np.testing.assert_allclose(found["kl"], kl.sum() / len(x), rtol=1e-4)
  assert found["active"] == (means.var(0, ddof=1) > 0.01).sum() > 0
  np.testing.assert_allclose(found["std"], means.std(), rtol=1e-5)
  assert f"{found['active']} of 32" in text.splitlines()[2]
  names = [name for name, _ in ex.pictures]
  assert names == ["reconstructions.png"]
  half = ex.between(*means[:2].reshape(2, 4, 4, 2), 0.5)
  np.testing.assert_allclose(np.ravel(half), means[:2].mean(0))
