"""A decoder of latents, its encoder and prior: the model of a VAE."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import checks, datasets
from jaxgen import outputs
from jaxgen.losses import decoders, importance, normalizing_flow, variational
from jaxgen.models import vae

SHARE = 0.01  # of a batch, in the running mean of the squared error
PART = 20  # weighted samples that are computed together


class Model(NamedTuple):
  """p(x | z) p(z), with the posterior q(z | x).

  Attributes:
    encoder, decoder: Flax modules of one example.
    latent: number of latent coordinates.
    shape: shape of an example.
    output: the distribution of levels; None is a Gaussian.
    std: how its standard deviation is found, as in Config.
    start: its first value.
    scale: unit of the encoder's input and of a Gaussian's mean.
    inputs: first values of the learned inputs whose posteriors are the prior,
      [M, *D], or None for the prior N(0, I).
  """

  encoder: Any
  decoder: Any
  latent: int
  shape: tuple[int, ...]
  output: outputs.Output | None
  std: str
  start: float
  scale: float
  inputs: np.ndarray | None

  def init(self, key: jax.Array) -> dict[str, Any]:
    """The first parameters."""
    encoder_key, decoder_key = jax.random.split(key)
    params = {
      "encoder": self.encoder.init(encoder_key, jnp.zeros(self.shape)),
      "decoder": self.decoder.init(decoder_key, jnp.zeros(self.latent)),
    }
    if self.output is None and self.std in ("learned", "per_coordinate"):
      shape = () if self.std == "learned" else self.shape
      params["log_std"] = jnp.full(shape, math.log(self.start))
    if self.inputs is not None:
      params["inputs"] = jnp.asarray(self.inputs)
    return params

  def extras(self, key: jax.Array) -> dict[str, jax.Array]:
    """The running mean of the squared error, where the std is that of it."""
    if self.output is None and self.std == "calibrated":
      return {"square": jnp.full((), self.start**2)}
    return {}

  def log_std(self, params: Any, extras: Any) -> Any:
    """log of the decoder's standard deviation; None for levels."""
    if self.output is not None:
      return None
    if self.std == "calibrated":
      return jnp.log(extras["square"]) / 2
    if self.std == "fixed":
      return jnp.full((), math.log(self.start))
    return variational.bounded(params["log_std"])

  def posterior(self, params: Any, x: Any, label: Any) -> variational.Gaussian:
    """q(z | x)."""
    parts = self.encoder.apply(params["encoder"], x / self.scale, label)
    return variational.gaussian(*parts)

  def decode(self, params: Any, z: Any, label: Any, key: Any = None) -> Any:
    """The decoder's output, with dropout if a key is given: a mean [*D] or
    numbers of an Output [*D, K].
    """
    how = {} if key is None else dict(train=True, rngs={"dropout": key})
    found = self.decoder.apply(params["decoder"], z, label, **how)
    return self.scale * found if self.output is None else found

  def likelihood(
    self, params: Any, log_std: Any, x: Any, label: Any, key: Any = None
  ) -> Callable:
    """z -> log p(x | z) in nats."""

    def fn(z):
      found = self.decode(params, z, label, key)
      if self.output is None:
        return decoders.gaussian(x, found, log_std)
      return decoders.discrete(self.output, found, x)

    return fn

  def prior(self, params: Any, label: Any) -> Callable:
    """z -> log p(z) in nats."""
    if self.inputs is None:
      return normalizing_flow.standard_normal
    posterior = lambda x: self.posterior(params, x, label)
    return variational.mixture(jax.vmap(posterior)(params["inputs"]))

  def sample(self, params: Any, extras: Any, key: Any, label: Any) -> Any:
    """A sample of p(x), [*D]."""
    latent_key, input_key, output_key = jax.random.split(key, 3)
    z = jax.random.normal(latent_key, (self.latent,))
    if self.inputs is not None:
      row = jax.random.randint(input_key, (), 0, len(self.inputs))
      x = params["inputs"][row]
      z = variational.sample(self.posterior(params, x, label), z)
    found = self.decode(params, z, label)
    if self.output is None:
      std = jnp.exp(self.log_std(params, extras))
      return found + std * jax.random.normal(output_key, self.shape)
    levels = outputs.sample(output_key, self.output, found)
    return outputs.to_values(levels, self.output.num_levels)

  def mean(self, params: Any, z: Any, label: Any) -> Any:
    """E[x | z], [*D]."""
    found = self.decode(params, z, label)
    return found if self.output is None else outputs.mean(self.output, found)

  def log_prob(
    self, params: Any, extras: Any, key: Any, x: Any, label: Any, number: int
  ) -> Any:
    """log p(x) from below, by `number` weighted samples, in nats."""
    return importance.iwae(
      self.log_weights(params, extras, key, x, label, number)
    )

  def log_weights(
    self, params: Any, extras: Any, key: Any, x: Any, label: Any, number: int
  ) -> Any:
    """log p(x, z) - log q(z | x) of samples, [number], in parts of PART."""
    posterior = self.posterior(params, x, label)
    log_std, prior = self.log_std(params, extras), self.prior(params, label)
    fn = self.likelihood(params, log_std, x, label)
    noise = jax.random.normal(key, (number, self.latent))

    def one(noise):
      return importance.log_weights(fn, posterior, noise[None], prior_fn=prior)

    return jax.lax.map(one, noise, batch_size=PART)[:, 0]


def make(config: Any, data: datasets.Data) -> Model:
  """The model of the settings.

  Raises:
    ValueError: the settings do not fit the data.
  """
  output, shape = make_output(config, data), data.shape
  size = shape if output is None else (*shape, output.num_params)
  how = dict(num_classes=data.num_classes)
  widths = (config.width,) * config.num_blocks
  if config.network == "mlp":
    encoder: Any = vae.Encoder(config.latent, widths, **how)
    decoder: Any = vae.Decoder(size, widths, dropout=config.dropout, **how)
  elif len(shape) != 3:
    raise ValueError(
      f"network, data: expected mlp for points, got conv for {config.data}"
    )
  else:
    wide = tuple(config.width * 2**i for i in range(config.num_blocks))
    encoder = vae.ConvEncoder(config.latent, wide, **how)
    decoder = vae.ConvDecoder(size, wide[::-1], dropout=config.dropout, **how)
  inputs = None
  if config.pseudo_inputs:
    key = jax.random.fold_in(jax.random.key(config.seed), 1002)
    inputs = data.unlabelled(key, config.pseudo_inputs)(0)
  start = data.std if config.decoder_std is None else config.decoder_std
  if output is None:
    checks.varied(config, data.std)
  model = Model(
    encoder,
    decoder,
    config.latent,
    shape,
    output,
    config.std,
    start,
    data.std if output is None else 1.0,
    inputs,
  )
  with checks.naming(config, shape="network, num_blocks, data"):
    jax.eval_shape(model.init, jax.random.key(0))
  return model


def make_output(config: Any, data: datasets.Data) -> outputs.Output | None:
  """The decoder's distribution of levels; None is a Gaussian.

  Raises:
    ValueError: the data have no levels, or others.
  """
  if config.likelihood == "gaussian":
    return None
  if data.levels is None:
    raise ValueError(
      f"likelihood, data: expected gaussian for {config.data}, which has no"
      f" levels, got {config.likelihood}"
    )
  if config.likelihood == "bernoulli":
    if data.levels != 2:
      raise ValueError(
        "likelihood, data: expected data with 2 levels for bernoulli, got"
        f" {data.levels} in {config.data}"
      )
    return outputs.bernoulli()
  if config.likelihood == "categorical":
    return outputs.categorical(data.levels)
  with checks.naming(config, logistic_mixture="num_components"):
    return outputs.logistic_mixture(data.levels, config.num_components)
