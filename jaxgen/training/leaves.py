"""A pytree as flat named arrays, as a checkpoint stores and compares them."""

import concurrent.futures
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def flatten(tree: PyTree) -> dict[str, Any]:
  """{path in the tree: array}; typed keys are replaced by their data.

  Raises:
    ValueError: two leaves have the same name.
  """
  flat = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = _name(path, leaf)
    if name in flat:
      raise ValueError(f"state: two leaves are both named {name}")
    flat[name] = jax.random.key_data(leaf) if _is_key(leaf) else leaf
  return flat


def unflatten(flat: dict[str, Any], like: PyTree) -> PyTree:
  """The inverse of flatten, with the structure of `like`."""

  def one(path, leaf):
    value = flat[_name(path, leaf)]
    if _is_key(leaf):
      return jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf))
    return value

  return jax.tree_util.tree_map_with_path(one, like)


def abstract(tree: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
  """{name: shape, dtype and sharding} of the flat leaves."""
  default = jax.sharding.SingleDeviceSharding(jax.devices()[0])

  def one(leaf):
    sharding = getattr(leaf, "sharding", None) or default
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return {name: one(leaf) for name, leaf in flatten(tree).items()}


def require_same(path: Any, expected: dict, stored: dict) -> None:
  """Raises ValueError if stored leaves differ in names, shapes or dtypes."""
  advice = "start with the configuration it was saved with, or in a new place"
  for name in sorted(expected.keys() | stored.keys()):
    want = describe(expected.get(name))
    have = describe(stored.get(name))
    if want != have:
      raise ValueError(
        f"{path}: {name}: expected {want}, found {have}; {advice}"
      )


def describe(leaf: Any) -> str:
  """Dtype and shape, as one word: float32(4, 3)."""
  if leaf is None:
    return "nothing"
  if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
    return type(leaf).__name__
  return f"{jnp.dtype(leaf.dtype).name}{tuple(leaf.shape)}"


def checksums(flat: dict[str, Any]) -> dict[str, int]:
  """{name: CRC-32 of the bytes}, 0 for an array that spans processes."""

  def one(leaf):
    if not leaf.is_fully_addressable:
      return 0
    return zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8))

  with concurrent.futures.ThreadPoolExecutor() as pool:
    return dict(zip(flat, pool.map(one, flat.values()), strict=True))


def _is_key(leaf):
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _name(path, leaf):
  """A leaf's path; for a key also its dtype, which key data do not record."""
  name = jax.tree_util.keystr(path, simple=True, separator="/")
  return f"{name} {leaf.dtype}" if _is_key(leaf) else name
