"""Batches as a pure function of (key, step), from memory or row by row.

The data are read as an endless sequence of epochs. Each epoch is a permutation
of all N examples, determined by (key, epoch) alone, and batch n is entries n B
to (n + 1) B of the sequence. So a batch may span several epochs, no example is
dropped, and a run that resumes at step n sees what the unbroken run saw.
"""

import collections
import functools
import operator
from collections.abc import Callable
from concurrent import futures
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, PyTree

from jaxgen import keys


class Source(NamedTuple):
  """Examples that are read by row number, wherever they are stored.

  Attributes:
    size: N.
    read: rows [B], each in 0, ..., N - 1 -> a pytree of NumPy arrays [B, ...].
  """

  size: int
  read: Callable[[np.ndarray], Any]


def in_memory(arrays: PyTree) -> Source:
  """A pytree of arrays [N, ...], with one N, as a source.

  Raises:
    ValueError: there are no arrays, or their leading sizes differ.
  """
  arrays = jax.tree.map(np.asarray, arrays)
  read = lambda rows: jax.tree.map(lambda array: array[rows], arrays)
  return Source(_num_examples(arrays), read)


def subset(source: Source, rows: Int[np.ndarray, "M"]) -> Source:
  """The source restricted to these rows."""
  return Source(len(rows), lambda chosen: source.read(rows[chosen]))


def with_held_out(sources: dict[str, Source], where: str) -> dict[str, Source]:
  """Splits validation and test off train where a dataset lacks them.

    p = RandomState(0).permutation(N),   n = min(max(N // 10, 1), 1000)

  The test part is the first n entries of p, validation the next n, train the
  rest; if only one of them is missing, it is the first n.

  Args:
    sources: 'train', and 'validation' or 'test' where the dataset has them.
    where: the file or dataset, for the error message.

  Returns:
    All three sources.

  Raises:
    ValueError: there are too few examples to leave one for training.
  """
  missing = [name for name in ("test", "validation") if name not in sources]
  if not missing:
    return sources
  train = sources["train"]
  order = np.random.RandomState(0).permutation(train.size)
  number = min(max(train.size // 10, 1), 1000)
  held_out = number * len(missing)
  if held_out >= train.size:
    raise ValueError(
      f"{where}: expected at least {held_out + 1} examples to train on and hold"
      f" out, got {train.size}"
    )
  rows = np.split(order, range(number, held_out + 1, number))
  names = (*missing, "train")
  cut = {n: subset(train, r) for n, r in zip(names, rows, strict=True)}
  return sources | cut


def batches(
  arrays: PyTree, key: Array, batch_size: int
) -> Callable[[int], Any]:
  """The function step -> batch.

  Args:
    arrays: a pytree of arrays [N, ...] with one N; kept on the host.
    key: a typed key, [], which orders every epoch.
    batch_size: B, at least one; it may exceed N.

  Returns:
    A function of a step (0, 1, ...) to the same pytree of NumPy arrays
    [B, ...]. It is pure: the batch depends on (key, step) alone.

  Raises:
    ValueError: key is a legacy key or an array of keys, there are no arrays,
      their leading sizes differ, or batch_size is below one; the returned
      function raises for a negative step.
  """
  return batches_from(in_memory(arrays), key, batch_size)


def batches_from(
  source: Source, key: Array, batch_size: int
) -> Callable[[int], Any]:
  """The function step -> batch of any source; otherwise as `batches`."""
  keys.require_typed(key)
  if batch_size < 1:
    raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
  size = source.size
  seed = np.asarray(jax.random.key_data(key)).tolist()

  @functools.lru_cache(maxsize=2)  # safe, since the function is pure
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
    return source.read(rows)

  return batch_fn


def prefetch(
  batch_fn: Callable[[int], Any],
  place: Callable[[Any], Any] = jax.device_put,
  depth: int = 2,
) -> Callable[[int], Any]:
  """The same function of the step, computed ahead of time in a thread.

    step -> place(batch_fn(step))

  While the caller works on a step, the thread computes and places the next
  ones; if a step other than the next is requested, it restarts from there. An
  exception in batch_fn is raised when its step is requested, not before. The
  thread ends after its pending batches once the returned function is deleted,
  or with the process. Thread-local contexts of the caller, such as
  jax.default_device, do not apply in it. Call the function from one thread.

  Args:
    batch_fn: a function of the step alone.
    place: transfers a batch from the host to its devices.
    depth: number of batches to prepare ahead, at least one, held in memory.

  Returns:
    The function step -> placed batch.

  Raises:
    ValueError: depth is below one.
  """
  if depth < 1:
    raise ValueError(f"depth: expected at least 1, got {depth}")
  thread = futures.ThreadPoolExecutor(1, "prefetch")
  ahead: collections.deque = collections.deque()  # (step, future), in order

  def placed(step):
    return place(batch_fn(step))

  def ask(step):
    step = operator.index(step)
    if ahead and ahead[0][0] != step:
      for _, future in ahead:
        future.cancel()
      ahead.clear()
    for number in range(step + len(ahead), step + depth + 1):
      ahead.append((number, thread.submit(placed, number)))
    return ahead.popleft()[1].result()

  return ask


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
