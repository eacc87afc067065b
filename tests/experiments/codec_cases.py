"""Small autoencoders of the digits with random parameters."""

import jax
import jax.numpy as jnp

from experiments import vqvae
from tests.models import twins


def config(**changes):
  small = dict(width=4, latent=3, num_codes=5, batch_size=4)
  return vqvae.Config("", **small | changes)


def started(**changes):
  """(experiment, its codec, random parameters, extras with random codes)."""
  settings = config(**changes)
  ex = vqvae.experiment(settings)
  codec = vqvae.make_codec(settings, ex.data)
  key = jax.random.key(0)
  params = twins.randomise(jax.eval_shape(ex.players, key))
  extras = jax.eval_shape(ex.extras, key)
  if extras:
    codes = twins.randomise(extras["codebook"])
    extras = {k: jnp.zeros(v.shape) for k, v in extras.items()}
    extras["codebook"] = codes
  return ex, codec, params, extras


def batch_of(ex):
  return jax.tree.map(lambda x: x[:4], ex.batches(jax.random.key(1))(0))
