"""Distances of images by the features of a network.

  d(x, y) = mean_l mean_p |u_l(x)_p - u_l(y)_p|^2,   u = h / sqrt(|h|^2 + e)

for the activations h_l [*S, C] of the layers l at positions p of S: LPIPS with
all its learned weights equal, on any network. With the features of a
discriminator in training it is a form of feature matching.

References: Zhang et al. 2018, arXiv:1801.03924, eq. 1; Larsen et al. 2016,
arXiv:1512.09300, eq. 7 (features of a discriminator).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def distance(
  x: Sequence[Array], y: Sequence[Array], epsilon: float = 1e-6
) -> Float[Array, ""]:
  """d of the features of two examples, from 0 to 4.

  The mean over layers of the mean over positions of the squared distance of
  the normalised channels.

  Args:
    x: activations of the layers for one example, each [*S, C].
    y: those for another, of the same shapes.
    epsilon: e, which keeps the derivative finite where all channels are 0;
      positive.

  Raises:
    ValueError: there are no layers, the shapes differ, or a layer is a scalar.
  """
  shapes = [[list(jnp.shape(layer)) for layer in part] for part in (x, y)]
  if shapes[0] != shapes[1] or not x or not all(shapes[0]):
    raise ValueError(
      "features: expected layers [*S, C], the same for both, got"
      f" {shapes[0]} and {shapes[1]}"
    )
  if not epsilon > 0:
    raise ValueError(f"epsilon: expected a positive number, got {epsilon}")
  layers = [
    jnp.mean(jnp.sum((_unit(a, epsilon) - _unit(b, epsilon)) ** 2, axis=-1))
    for a, b in zip(x, y, strict=True)
  ]
  return jnp.mean(jnp.stack(layers))


def _unit(h, epsilon):
  size = jnp.sum(h**2, axis=-1, keepdims=True)
  return h / jnp.sqrt(size + epsilon)
