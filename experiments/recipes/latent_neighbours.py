"""A generator of latents or of noise, and a map from noise to the latents."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.losses import latent_nearest
from jaxgen.models import gan


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
