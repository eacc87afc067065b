"""The Fisher divergence: the mean squared difference of two scores.

F(p, q) = E_{x ~ p} |grad log p(x) - grad log q(x)|^2
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def divergence(
  score_fn: Callable, other_fn: Callable, points: Float[Array, "N *D"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """The Fisher divergence of two scores, estimated from samples of p.

  Equals D times the mean of losses.score_matching.explicit. Its minimum is 0,
  unlike that of the other losses, so it measures how good a score is.

  Args:
    score_fn: grad log p, [*D] -> [*D].
    other_fn: grad log q, [*D] -> [*D].
    points: samples of p, [N, *D].

  Returns:
    The estimate and its standard error, both [], per unit of length squared.

  Raises:
    ValueError: there are fewer than two points, or a score differs in shape.

  Reference: Hyvarinen 2005, JMLR 6, eq. 2 (half of it).
  """
  if len(points) < 2:
    raise ValueError(f"points: expected at least 2, got {len(points)}")
  first, second = (jax.vmap(f)(points) for f in (score_fn, other_fn))
  if first.shape != points.shape or second.shape != points.shape:
    raise ValueError(
      f"score_fn, other_fn: expected scores {list(points.shape)}, got"
      f" {list(first.shape)} and {list(second.shape)}"
    )
  squares = jnp.sum((first - second).reshape(len(points), -1) ** 2, 1)
  error = jnp.std(squares, ddof=1) / jnp.sqrt(len(points))
  return squares.mean(), error
