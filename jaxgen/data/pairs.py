"""Batches of pairs: a data example and a source example each.

Data, source and pairs are functions of the step: a resumed run sees what the
unbroken run saw. The coupling runs on the host where the batch is made, in the
thread of loaders.prefetch, so that it overlaps with the device's work.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array

from jaxgen import keys

Coupling = Callable[..., np.ndarray]


def batches(
  data_fn: Callable[[int], tuple],
  source_fn: Callable[[int], np.ndarray],
  key: Array,
  batch_size: int,
  couple: Coupling | None = None,
  num_batches: int = 1,
) -> Callable[[int], tuple]:
  """The function step -> (data [B, *D], labels [B] or None, source [B, *D]).

  Args:
    data_fn: pool number -> (examples [P, *D], labels [P] or None), on the host
      or device, P = num_batches * batch_size.
    source_fn: pool number -> examples [P, *D].
    key: a typed key, [], of the coupling.
    batch_size: B.
    couple: (key, data, source, labels) -> order [P], as in couplings; None
      pairs row i with row i.
    num_batches: number of batches coupled together, as one pool; larger pools
      approximate the coupling of the distributions better.

  Returns:
    A function of a step (0, 1, ...). It is pure: the batch depends on
    (key, step) alone.

  Raises:
    ValueError: key is a legacy key, or batch_size or num_batches is below one;
      the returned function raises if a pool has another size or the coupling
      raises.
  """
  keys.require_typed(key)
  for name, number in dict(
    batch_size=batch_size, num_batches=num_batches
  ).items():
    if number < 1:
      raise ValueError(f"{name}: expected at least 1, got {number}")
  size = batch_size * num_batches

  @functools.lru_cache(maxsize=2)  # safe, since the function is pure
  def pool(number):
    data, labels = data_fn(number)
    data, source = np.asarray(data), np.asarray(source_fn(number))
    for name, examples in (("data", data), ("source", source)):
      if len(examples) != size:
        raise ValueError(
          f"{name}: expected {size} examples in a pool, {num_batches} batches"
          f" of {batch_size}; got {len(examples)}"
        )
    if couple is not None:
      order = couple(jax.random.fold_in(key, number), data, source, labels)
      source = source[order]
    return data, None if labels is None else np.asarray(labels), source

  def batch_fn(step):
    number, part = divmod(step, num_batches)
    rows = slice(part * batch_size, (part + 1) * batch_size)
    return tuple(x if x is None else x[rows] for x in pool(number))

  return batch_fn
