"""The gradient of a batch that is computed in parts, in less memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def accumulated(gradient: Callable, number: int) -> Callable:
  """The mean of a gradient over the parts of a batch, one after the other.

  Part i has the rows i, i + number, ..., so that on several devices each keeps
  its share, and the key fold_in(key, i). Extras pass from part to part. For a
  loss that is a mean over the batch and ignores its key, the result is that of
  the whole batch, up to rounding.

  Args:
    gradient: (params, extras, key, batch) -> ((loss, (metrics, extras)),
      grads), as from jax.value_and_grad.
    number: number of parts, at least 1.

  Returns:
    The same function of a whole batch, whose first axis is a multiple of
    number; loss, metrics and gradients are means over the parts.
  """

  def mean(params, extras, key, batch):
    def one(i, extras, part):
      own_key = jax.random.fold_in(key, i)
      found, grads = gradient(params, extras, own_key, part)
      loss, (metrics, extras) = found
      return (loss, metrics, grads), extras

    def body(carry, inputs):  # sums, so that no part's gradient is kept
      total, extras = carry
      found, extras = one(inputs[0], extras, inputs[1])
      return (jax.tree.map(jnp.add, total, found), extras), None

    parts = jax.tree.map(lambda leaf: _parts(leaf, number), batch)
    first = jax.tree.map(lambda leaf: leaf[0], parts)
    like, _ = jax.eval_shape(one, 0, extras, first)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    inputs = jnp.arange(number), parts
    (total, extras), _ = jax.lax.scan(body, (zero, extras), inputs)
    loss, metrics, grads = jax.tree.map(lambda leaf: leaf / number, total)
    return (loss, (metrics, extras)), grads

  return mean


def _parts(leaf: Any, number: int) -> jax.Array:
  """[B, ...] -> [number, B / number, ...]."""
  if not jnp.ndim(leaf) or len(leaf) % number:
    raise ValueError(
      f"accumulate: expected batches of a multiple of {number} rows, got shape"
      f" {list(jnp.shape(leaf))}"
    )
  split = leaf.reshape(len(leaf) // number, number, *leaf.shape[1:])
  return jnp.moveaxis(split, 1, 0)
