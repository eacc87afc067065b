"""A generator of latents or of noise, a map from noise to the latents, and the
learning rates of their stages.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.losses import latent_nearest
from jaxgen.models import gan

WARMUP = 100  # largest number of warm-up steps


class Model(NamedTuple):
  """Generator and map, with parameters by player.

  Attributes:
    generator: from a latent of norm one, or from noise, to an example.
    map: from noise to a latent; None for IMLE alone.
    noise: dimension of the noise.
    latent: dimension of the latents.
    number: number of training examples.
  """

  generator: gan.Generator
  map: gan.Generator | None
  noise: int
  latent: int
  number: int

  def players(self, key: jax.Array) -> dict[str, Any]:
    """Initial {player: parameters}; the latents are those of the generator."""
    net_key, latent_key, map_key = jax.random.split(key, 3)
    if self.map is None:
      net = self.generator.init(net_key, jnp.zeros(self.noise))
      return {"generator": {"net": net}}
    latents = jax.random.normal(latent_key, (self.number, self.latent))
    net = self.generator.init(net_key, jnp.zeros(self.latent))
    return {
      "generator": project({"net": net, "latents": latents}),
      "map": self.map.init(map_key, jnp.zeros(self.noise)),
    }

  def decode(self, params: Any, latent: jax.Array) -> jax.Array:
    """The example of a latent, or of noise for IMLE alone, [*D]."""
    return self.generator.apply(params["generator"]["net"], latent)

  def latent_of(self, params: Any, noise: jax.Array) -> jax.Array:
    """The latent of noise: mapped and projected."""
    return latent_nearest.on_sphere(self.map.apply(params["map"], noise))

  def generate(self, params: Any, noise: jax.Array) -> jax.Array:
    """The example of noise."""
    if self.map is not None:
      noise = self.latent_of(params, noise)
    return self.decode(params, noise)


def project(params: dict[str, Any]) -> dict[str, Any]:
  """The parameters with latents of norm one."""
  latents = jax.vmap(latent_nearest.on_sphere)(params["latents"])
  return params | {"latents": latents}


def during(stage: jax.Array, loss: Callable) -> jax.Array:
  """loss() in its stage; 0, computed without it and its gradient, in others."""
  return jax.lax.cond(stage, loss, lambda: jnp.zeros(()))


def adam(
  rate: float, stage: tuple[int, int], b1: float, b2: float
) -> optax.GradientTransformation:
  """Adam whose rate is 0 but for the steps of a stage, [first, last).

  Within it, the rate has a warm-up and a cosine decay to 0.
  """
  first, length = stage[0], stage[1] - stage[0]
  rise = optax.warmup_cosine_decay_schedule(
    0.0, rate, min(WARMUP, length // 10), length
  )
  schedule = optax.join_schedules(
    (optax.constant_schedule(0.0), rise), (first,)
  )
  return optax.adam(schedule, b1, b2)
