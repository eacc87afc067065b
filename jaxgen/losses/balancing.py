"""Two losses of one output, balanced by their gradients in the last layer.

  L = L_1 + s w L_2,   w = |dL_1 / dW| / (|dL_2 / dW| + delta)

W are the parameters of the layer that makes the output, and w a constant for
derivatives, so that for s = 1 both losses move W by gradients of one norm. It
balances the reconstruction and the adversarial loss of a VQGAN.

Reference: Esser et al. 2021, arXiv:2012.09841, eq. 7. Its program adds 1e-4 as
delta and bounds w by 1e4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from jaxtyping import ArrayLike as Numeric


class Balanced(NamedTuple):
  """The sum of two losses and its parts.

  Attributes:
    loss: L, [], whose derivative is that of the sum for a constant weight.
    first: L_1, [], without a derivative, as all that follows.
    second: L_2, [].
    weight: w, [].
  """

  loss: Float[Array, ""]
  first: Float[Array, ""]
  second: Float[Array, ""]
  weight: Float[Array, ""]


def adaptive_weight(
  first: Any, second: Any, delta: Numeric = 1e-6
) -> Float[Array, ""]:
  """w of two gradients in the same parameters, without a derivative.

    |first| / (|second| + delta), with |.| the norm over all leaves

  Args:
    first: dL_1 / dW, a pytree.
    second: dL_2 / dW, a pytree.
    delta: positive; where the second gradient is 0, w = |first| / delta.
  """
  sizes = [
    jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))
    for tree in (first, second)
  ]
  return jax.lax.stop_gradient(sizes[0] / (sizes[1] + delta))


def balanced(
  first_fn: Callable,
  second_fn: Callable,
  output_fn: Callable,
  last: Any,
  scale: Numeric = 1.0,
  delta: Numeric = 1e-6,
) -> Balanced:
  """L for an output, in one backward pass through the network.

  Both losses are differentiated in the output, these two slopes are pulled back
  to W alone, and their weighted sum is what the network gets:

    L = sg(value) + <sg(slope), y - sg(y)>

  Args:
    first_fn: L_1, output -> [].
    second_fn: L_2, output -> [].
    output_fn: W -> output, such as a batch of images: the network with its
      other parameters and inputs bound.
    last: W, a pytree.
    scale: s, [], such as 0 before a step and a constant afterwards.
    delta: as in adaptive_weight.

  Returns:
    The loss and its parts. Its derivative goes through the output only: what
    else first_fn and second_fn depend on counts as constant.

  Raises:
    ValueError: a loss is not a scalar.
  """
  output, pull = jax.vjp(output_fn, last)
  fixed = jax.lax.stop_gradient(output)
  first, slope = _slope("first_fn", first_fn, fixed)
  second, other = _slope("second_fn", second_fn, fixed)
  weight = adaptive_weight(pull(slope), pull(other), delta)
  share = scale * weight
  value = jax.lax.stop_gradient(first + share * second)
  slope = jax.lax.stop_gradient(slope + share * other)
  loss = value + jnp.sum(slope * (output - fixed))
  first, second = jax.lax.stop_gradient((first, second))
  return Balanced(loss, first, second, weight)


def _slope(name, fn, output):
  """The loss and its gradient in the output."""

  def loss(y):
    found = jnp.asarray(fn(y))
    if found.shape != ():
      raise ValueError(
        f"{name}: expected a loss [], got shape {list(found.shape)}"
      )
    return found

  return jax.value_and_grad(loss)(output)
