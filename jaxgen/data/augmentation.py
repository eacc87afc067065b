"""Random changes of one example inside a loss, differentiable."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def shift(
  key: Key[Array, ""], x: Float[Array, "H W C"], probability: float
) -> Float[Array, "H W C"]:
  """The image moved by up to a pixel each way, with this probability.

  Each of the nine moves is equally likely. What comes in is -1, black. In an
  adversarial game both players see the same distribution of moves.

  Args:
    key: decides whether and where the image moves.
    x: the image, [H, W, C].
    probability: that it moves, from 0 to 1.
  """
  move_key, moved_key = jax.random.split(key)
  moved = jax.random.bernoulli(moved_key, probability)
  first = jnp.where(moved, jax.random.randint(move_key, (2,), 0, 3), 1)
  wide = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-1.0)
  return jax.lax.dynamic_slice(wide, (first[0], first[1], 0), x.shape)
