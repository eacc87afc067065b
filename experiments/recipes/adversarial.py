"""A generator and a discriminator: parameters, batches and learning rates."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.lib import datasets
from jaxgen import costs
from jaxgen.data import augmentation
from jaxgen.losses import o_gan
from jaxgen.models import gan
from jaxgen.training import games, step

WARMUP = 100  # largest number of warm-up steps


class Model(NamedTuple):
  """A generator, which makes a sample in one call, and its discriminator.

  An encoder in place of the discriminator (O-GAN) maps an example, flattened,
  to [latent]; its score is the mean. Since the correlation does not depend on
  the mean and the scale of a latent, latents are then standardised: noise, and
  encodings.

  Attributes:
    generator, discriminator: Flax modules of one example.
    latent: dimension of the generator's input.
    shape: shape of an example, *D.
    num_classes: number of classes; 0 without labels.
    encodes: whether the discriminator is an encoder.
  """

  generator: Any
  discriminator: Any
  latent: int
  shape: tuple[int, ...]
  num_classes: int
  encodes: bool = False

  def players(self, key: jax.Array) -> dict[str, Any]:
    """Initial {player: parameters}."""
    generator_key, discriminator_key = jax.random.split(key)
    label = 0 if self.num_classes else None
    z, x = jnp.zeros(self.latent), jnp.zeros(self.shape)
    seen = x.ravel() if self.encodes else x
    return {
      "discriminator": self.discriminator.init(discriminator_key, seen, label),
      "generator": self.generator.init(generator_key, z, label),
    }

  def noise(self, key: jax.Array) -> jax.Array:
    """Noise for the generator, [latent]."""
    z = jax.random.normal(key, (self.latent,))
    return standardised(z) if self.encodes else z

  def decode(self, params: Any, latent: jax.Array, label: Any) -> jax.Array:
    """The generator's example of a latent, [*D]; params of all players."""
    return self.generator.apply(params["generator"], latent, label)

  def generate(self, params: Any, key: jax.Array, label: Any) -> jax.Array:
    """One generated example, [*D]; params of all players."""
    return self.decode(params, self.noise(key), label)

  def score(self, params: Any, x: jax.Array, label: Any) -> jax.Array:
    """The discriminator's score of an example, []; params of all players."""
    if self.encodes:
      return self._encoding(params, x).mean()
    return self.discriminator.apply(params["discriminator"], x, label)

  def encode(self, params: Any, x: jax.Array) -> jax.Array:
    """The latent of an example, standardised; params of all players."""
    return standardised(self._encoding(params, x))

  def correlation(
    self, params: Any, latents: jax.Array, made: jax.Array
  ) -> jax.Array:
    """Mean correlation of latents [B, Z] and encodings of their examples."""
    encodings = jax.vmap(lambda y: self._encoding(params, y))(made)
    return jax.vmap(o_gan.correlation)(latents, encodings).mean()

  def _encoding(self, params, x):
    return self.discriminator.apply(params["discriminator"], x.ravel())


def make_model(config: Any, data: datasets.Data) -> Model:
  """Both players; an encoder is a network like the generator, to latents."""
  features = (config.width,) * config.num_blocks
  bounded = len(data.shape) == 3
  discriminator: Any = gan.Discriminator(features, data.num_classes)
  if config.correlation:
    discriminator = gan.Generator((config.latent,), features)
  return Model(
    gan.Generator(data.shape, features, data.num_classes, bounded=bounded),
    discriminator,
    config.latent,
    data.shape,
    data.num_classes,
    encodes=bool(config.correlation),
  )


def views(
  config: Any,
  model: Model,
  params: Any,
  key: jax.Array,
  examples: jax.Array,
  labels: Any,
) -> tuple[Any, ...]:
  """Real and generated examples [B, *D], shifted for the discriminator, and the
  pairs (latents, their examples), which are not shifted.
  """
  make_key, real_key, made_key = jax.random.split(key, 3)
  keys = lambda key: jax.random.split(key, len(examples))
  drawn = jax.vmap(model.noise)(keys(make_key))
  made = jax.vmap(functools.partial(model.decode, params))(drawn, labels)
  if not config.shift:
    return examples, made, (drawn, made)
  shift = jax.vmap(lambda k, x: augmentation.shift(k, x, config.shift))
  shifted = shift(keys(real_key), examples), shift(keys(made_key), made)
  return *shifted, (drawn, made)


def related(config: Any, model: Model, params: Any, pairs: Any) -> Any:
  """The correlation's term of both losses and its metric; 0 and none without an
  encoder.
  """
  if not model.encodes:
    return 0.0, {}
  value = model.correlation(params, *pairs)
  return -config.correlation * value, {"correlation": value}


def standardised(latent: jax.Array) -> jax.Array:
  """(z - mean z) / std z over the entries, [Z]; 0 if all entries are equal."""
  centred = latent - latent.mean()
  length = costs.norm(centred)
  return jnp.sqrt(latent.size) * centred / jnp.where(length > 0, length, 1.0)


def penalty_weights(config: Any) -> np.ndarray:
  """The penalty's weight at each step, 0 in steps without it, [num_steps]."""
  first, last = config.penalty_weight, config.penalty_last

  def weight(number):
    if config.penalty == "none" or (number + 1) % config.penalty_every:
      return 0.0
    done = min(1.0, 2 * number / config.num_steps)
    return first * ((last or first) / first) ** done * config.penalty_every

  return np.float32([weight(number) for number in range(config.num_steps)])


def make_batches(
  config: Any,
  data: datasets.Data,
  turns: Sequence[step.Turn],
  key: jax.Array,
) -> Callable[[int], dict[str, Any]]:
  """step -> {player: (examples, labels)}."""
  parts = [
    data.batches(k, turn.num_steps * config.batch_size)
    for turn, k in zip(turns, jax.random.split(key), strict=True)
  ]
  return lambda number: {
    turn.player: games.by_inner_step(turn, part(number))
    for turn, part in zip(turns, parts, strict=True)
  }


def make_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
  """Adam with a warm-up and a cosine decay over a number of steps."""
  rate = config.learning_rate
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, rate, min(WARMUP, steps // 10), steps, config.last_rate * rate
  )
  return optax.adam(schedule, config.adam_b1, config.adam_b2)
