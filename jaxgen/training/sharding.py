"""Placement of arrays on devices: one mesh with one axis, "data".

Batches are sharded over the mesh. The state is replicated, or sharded leaf by
leaf by a rule and gathered for the loss: a step computes the same as on one
device, up to the order in which gradients are summed. Random numbers agree too,
since each is a function of its key and index alone. All functions work for any
number of devices, including one.

A rule is a function (shape, number of devices) -> axis to shard, or None.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import sharding
from jaxtyping import PyTree

AXIS = "data"

Rule = Callable[[tuple[int, ...], int], int | None]


def mesh(devices: Sequence[jax.Device] | None = None) -> sharding.Mesh:
  """The mesh of these devices.

  Args:
    devices: in order; None for all devices of the default backend, or for
      jax.default_device if that is set.

  Returns:
    A mesh with the single axis "data", left to the compiler (AxisType.Auto).
  """
  chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
  if devices is None and isinstance(chosen, jax.Device):
    devices = [chosen]
  if devices is None:
    devices = jax.devices(chosen)  # None or a platform's name
  return jax.make_mesh(
    (len(devices),),
    (AXIS,),
    axis_types=(sharding.AxisType.Auto,),
    devices=devices,
  )


def whole(mesh: sharding.Mesh) -> sharding.NamedSharding:
  """A sharding that replicates an array on every device."""
  return sharding.NamedSharding(mesh, sharding.PartitionSpec())


def split(mesh: sharding.Mesh, axis: int = 0) -> sharding.NamedSharding:
  """A sharding with an equal part of an axis on every device.

  Args:
    mesh: the mesh of devices.
    axis: the axis to shard; 0 for a batch [B, *D], 1 for the batches
      [n, B, *D] of a turn with n inner steps.
  """
  spec = sharding.PartitionSpec(*(None,) * axis, AXIS)
  return sharding.NamedSharding(mesh, spec)


def replicate(shape: tuple[int, ...], num_devices: int) -> int | None:
  """The rule that shards nothing."""
  return None


def longest_axis(min_size: int = 512) -> Rule:
  """The rule that shards large leaves along their longest divisible axis.

  Args:
    min_size: leaves with fewer elements are replicated, since gathering them
      would cost more than sharding saves.

  Returns:
    The rule; it chooses the first of equal axes, and None if no axis is
    divisible by the number of devices.

  Raises:
    ValueError: min_size is below 1.
  """
  if min_size < 1:
    raise ValueError(f"min_size: expected at least 1, got {min_size}")

  def rule(shape, num_devices):
    size = 1
    for length in shape:
      size *= length
    axes = [i for i, n in enumerate(shape) if n % num_devices == 0]
    if size < min_size or not axes:
      return None
    return max(axes, key=lambda i: shape[i])

  return rule


def shardings(tree: PyTree, mesh: sharding.Mesh, rule: Rule) -> PyTree:
  """The sharding of each leaf of a tree.

  Args:
    tree: arrays or shapes (jax.eval_shape), such as a State.
    mesh: the mesh of devices.
    rule: chooses the axis of a leaf to shard.

  Returns:
    A NamedSharding for each leaf, in the same structure: for jit's
    out_shardings, jax.device_put and make_train_step.
  """

  def one(leaf):
    axis = rule(leaf.shape, mesh.size)
    return whole(mesh) if axis is None else split(mesh, axis)

  return jax.tree.map(one, tree)


def bytes_per_device(tree: PyTree, shardings: PyTree) -> int:
  """Number of bytes of a tree on one device under these shardings.

  Args:
    tree: arrays or shapes; keys count as their data.
    shardings: shardings, in the same structure.
  """

  def one(leaf, place):
    part = jax.ShapeDtypeStruct(place.shard_shape(leaf.shape), leaf.dtype)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      part = jax.eval_shape(jax.random.key_data, part)
    return part.size * part.dtype.itemsize

  return sum(jax.tree.leaves(jax.tree.map(one, tree, shardings)))


def check_batch_size(batch_size: int, mesh: sharding.Mesh) -> None:
  """Raises if the batch size is not divisible by the number of devices.

  Raises:
    ValueError: batch_size is not a multiple of the mesh's size.
  """
  if batch_size % mesh.size:
    raise ValueError(
      f"batch_size: expected a multiple of the {mesh.size} devices, "
      f"got {batch_size}"
    )


def spread(fn: Callable, mesh: sharding.Mesh) -> Callable:
  """Evaluates a function of many examples on all devices, sharded by example.

  Args:
    fn: (params, *examples) -> results, pytrees of arrays [N, ...] or None; row
      i of the results depends on params and row i of the examples.
    mesh: the mesh of devices.

  Returns:
    fn, jitted, for any N: rows are padded to a multiple of the number of
    devices by repeating the first ones, and the padding is removed from the
    results. Params are replicated once per call.
  """
  program = jax.jit(fn, out_shardings=split(mesh))

  def spread_fn(params: PyTree, *examples: Any) -> PyTree:
    num = len(jax.tree.leaves(examples)[0])
    rows = jnp.arange(num + -num % mesh.size) % num
    if len(rows) > num:
      examples = jax.tree.map(lambda x: x[rows], examples)
    params = jax.device_put(params, whole(mesh))
    results = program(params, *jax.device_put(examples, split(mesh)))
    if len(rows) > num:
      results = jax.tree.map(lambda x: x[:num], results)
    return results

  return spread_fn
