"""A generator and a discriminator: parameters, batches and learning rates."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.lib import datasets
from jaxgen.training import games, step

WARMUP = 100  # largest number of warm-up steps


class Model(NamedTuple):
  """A generator, which makes a sample in one call, and its discriminator.

  Attributes:
    generator, discriminator: Flax modules of one example.
    latent: dimension of the generator's input.
    shape: shape of an example, *D.
    num_classes: number of classes; 0 without labels.
  """

  generator: Any
  discriminator: Any
  latent: int
  shape: tuple[int, ...]
  num_classes: int

  def players(self, key: jax.Array) -> dict[str, Any]:
    """Initial {player: parameters}."""
    generator_key, discriminator_key = jax.random.split(key)
    label = 0 if self.num_classes else None
    z, x = jnp.zeros(self.latent), jnp.zeros(self.shape)
    return {
      "discriminator": self.discriminator.init(discriminator_key, x, label),
      "generator": self.generator.init(generator_key, z, label),
    }

  def generate(self, params: Any, key: jax.Array, label: Any) -> jax.Array:
    """One generated example, [*D]."""
    z = jax.random.normal(key, (self.latent,))
    return self.generator.apply(params, z, label)

  def score(self, params: Any, x: jax.Array, label: Any) -> jax.Array:
    """The discriminator's score of an example, []; params of all players."""
    return self.discriminator.apply(params["discriminator"], x, label)


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
