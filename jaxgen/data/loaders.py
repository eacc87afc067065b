"""Batches as a pure function of (key, step), for data that fits in memory.

The data are read as an endless row of epochs, each a permutation of all N
examples that (key, epoch) alone determines; batch n is entries n B to (n + 1) B
of that row. So a batch may straddle two epochs, or hold several, no example is
dropped, and a run that resumes at step n sees what the unbroken run saw.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from jaxgen import keys


def batches(
  arrays: PyTree, key: Array, batch_size: int
) -> Callable[[int], Any]:
  """The function step -> batch.

  Args:
    arrays: a pytree of arrays [N, ...] with one N; kept on the host.
    key: a typed key, [], which orders every epoch.
    batch_size: B, at least one, and above N if you wish.

  Returns:
    A function of a step (0, 1, ...) to the same pytree of NumPy arrays
    [B, ...]. Pure: of (key, step) alone, whatever was asked before.

  Raises:
    ValueError: a legacy or batched key, no data, leading sizes that differ,
      batch_size below one; and from the function, a negative step.
  """
  keys.require_typed(key)
  if batch_size < 1:
    raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
  arrays = jax.tree.map(np.asarray, arrays)
  size = _num_examples(arrays)
  seed = np.asarray(jax.random.key_data(key)).tolist()

  @functools.lru_cache(maxsize=2)  # a memory of a pure function
  def permutation(epoch):
    # Sorted raw bits: NumPy keeps these streams fixed between its versions.
    entropy = np.random.SeedSequence([*seed, epoch])
    return np.argsort(np.random.Philox(entropy).random_raw(size), kind="stable")

  def batch_fn(step):
    start = operator.index(step) * batch_size
    if start < 0:
      raise ValueError(f"step: expected at least 0, got {step}")
    stop = start + batch_size
    rows = np.concatenate(
      [
        permutation(epoch)[max(start - epoch * size, 0) : stop - epoch * size]
        for epoch in range(start // size, (stop - 1) // size + 1)
      ]
    )
    return jax.tree.map(lambda array: array[rows], arrays)

  return batch_fn


def _num_examples(arrays):
  leaves = jax.tree.leaves(arrays)
  if not leaves or any(leaf.ndim == 0 for leaf in leaves):
    raise ValueError("arrays: expected arrays [N, ...], got none or a scalar")
  sizes = {len(leaf) for leaf in leaves}
  if len(sizes) > 1:
    raise ValueError(f"arrays: expected one leading size, got {sorted(sizes)}")
  size = sizes.pop()
  if size == 0:
    raise ValueError("arrays: expected at least one example, got none")
  return size
