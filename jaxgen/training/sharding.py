"""Where a run's arrays live: one mesh of devices, one axis, "data".

A batch is split over the mesh. The state is replicated, or split leaf by leaf
by a rule and gathered whole for the loss: a step computes what one device
would, up to the order in which gradients are summed. Random numbers agree too,
for each is a function of its key and index alone. No function here asks how
many devices there are but of its mesh, which may well be of one.

A rule is a function (shape, number of devices) -> axis to split, or None.
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
    devices: in order; None for all of the default backend, or the one that
      jax.default_device names where it is set.

  Returns:
    A mesh with the one axis "data", left to the compiler (AxisType.Auto).
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
  """The same array on every device."""
  return sharding.NamedSharding(mesh, sharding.PartitionSpec())


def split(mesh: sharding.Mesh, axis: int = 0) -> sharding.NamedSharding:
  """An equal part of an axis on every device.

  Args:
    mesh: of `mesh`.
    axis: which one; 0 for a batch [B, *D], 1 for the batches [n, B, *D] of a
      turn of n inner steps.
  """
  spec = sharding.PartitionSpec(*(None,) * axis, AXIS)
  return sharding.NamedSharding(mesh, spec)


def replicate(shape: tuple[int, ...], num_devices: int) -> int | None:
  """The rule that splits nothing."""
  return None


def longest_axis(min_size: int = 512) -> Rule:
  """The rule that splits large leaves along the longest axis that divides.

  Args:
    min_size: elements below which a leaf is left whole: gathering it would
      cost more than it saves.

  Returns:
    The rule; of equal axes the first, and None where no axis divides.

  Raises:
    ValueError: min_size below 1.
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
  """Where each leaf of a tree belongs.

  Args:
    tree: arrays or shapes (jax.eval_shape), a State for instance.
    mesh: of `mesh`.
    rule: which axis of a leaf is split.

  Returns:
    The same structure of NamedSharding: for jit's out_shardings,
    jax.device_put and make_train_step.
  """

  def one(leaf):
    axis = rule(leaf.shape, mesh.size)
    return whole(mesh) if axis is None else split(mesh, axis)

  return jax.tree.map(one, tree)


def bytes_per_device(tree: PyTree, shardings: PyTree) -> int:
  """Bytes of a tree that one device holds under these shardings.

  Args:
    tree: arrays or shapes; keys count as their data.
    shardings: of the same structure.
  """

  def one(leaf, place):
    part = jax.ShapeDtypeStruct(place.shard_shape(leaf.shape), leaf.dtype)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      part = jax.eval_shape(jax.random.key_data, part)
    return part.size * part.dtype.itemsize

  return sum(jax.tree.leaves(jax.tree.map(one, tree, shardings)))


def check_batch_size(batch_size: int, mesh: sharding.Mesh) -> None:
  """Refuses a batch that the mesh does not divide.

  Raises:
    ValueError: as said.
  """
  if batch_size % mesh.size:
    raise ValueError(
      f"batch_size: expected a multiple of the {mesh.size} devices, "
      f"got {batch_size}"
    )


def spread(fn: Callable, mesh: sharding.Mesh) -> Callable:
  """Computes a function of many examples on all devices, a share on each.

  Args:
    fn: (params, *examples) -> results, pytrees of arrays [N, ...], None among
      them; row i of the results depends on params and row i of the examples.
    mesh: of `mesh`.

  Returns:
    fn, jitted. Any N will do: the last rows are filled up with the first ones
    again and cut from the results. Params are gathered whole, once a call.
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
