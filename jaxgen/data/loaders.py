"""Batches as a pure function of (key, step), from memory or row by row.

The data are read as an endless row of epochs, each a permutation of all N
examples that (key, epoch) alone determines; batch n is entries n B to (n + 1) B
of that row. So a batch may straddle two epochs, or hold several, no example is
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
  """Examples that are read by their rows, wherever they are.

  Attributes:
    size: N.
    read: rows [B], each in 0, ..., N - 1 -> a pytree of NumPy arrays [B, ...].
  """

  size: int
  read: Callable[[np.ndarray], Any]


def in_memory(arrays: PyTree) -> Source:
  """A pytree of arrays [N, ...], with one N, as a source.

  Raises:
    ValueError: no data, or leading sizes that differ.
  """
  arrays = jax.tree.map(np.asarray, arrays)
  read = lambda rows: jax.tree.map(lambda array: array[rows], arrays)
  return Source(_num_examples(arrays), read)


def subset(source: Source, rows: Int[np.ndarray, "M"]) -> Source:
  """The examples of these rows, as a source of their own."""
  return Source(len(rows), lambda chosen: source.read(rows[chosen]))


def with_held_out(sources: dict[str, Source], where: str) -> dict[str, Source]:
  """Cuts validation and test off train where a set brings none of its own.

    p = RandomState(0).permutation(N),   n = min(max(N // 10, 1), 1000)

  The test part is the first n entries of p, validation the next n, train the
  rest; if one of them is there already, only the other is cut.

  Args:
    sources: 'train', and 'validation' or 'test' where the set has them.
    where: the file or set, for the error.

  Returns:
    All three.

  Raises:
    ValueError: too few examples to leave one for training.
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
    batch_size: B, at least one, and above N if you wish.

  Returns:
    A function of a step (0, 1, ...) to the same pytree of NumPy arrays
    [B, ...]. Pure: of (key, step) alone, whatever was asked before.

  Raises:
    ValueError: a legacy or batched key, no data, leading sizes that differ,
      batch_size below one; and from the function, a negative step.
  """
  return batches_from(in_memory(arrays), key, batch_size)


def batches_from(
  source: Source, key: Array, batch_size: int
) -> Callable[[int], Any]:
  """The function step -> batch of any source; batches says the rest."""
  keys.require_typed(key)
  if batch_size < 1:
    raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
  size = source.size
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
    return source.read(rows)

  return batch_fn


def prefetch(
  batch_fn: Callable[[int], Any],
  place: Callable[[Any], Any] = jax.device_put,
  depth: int = 2,
) -> Callable[[int], Any]:
  """The same function of the step, computed ahead in a thread.

    step -> place(batch_fn(step))

  While the caller works on a step, the thread draws and places the next ones.
  Asked for a step other than the next, it starts over there. What batch_fn
  raises is raised where its step is asked for, not before. The thread ends
  with the function that is returned (or the process), after the batches that
  it was at. Contexts of the caller's thread, jax.default_device say, do not
  reach it. Ask from one thread.

  Args:
    batch_fn: a function of the step alone.
    place: puts a host batch where the step wants it.
    depth: batches ahead, at least one; so many more are held in memory.

  Returns:
    The function step -> placed batch.

  Raises:
    ValueError: depth below one.
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
