"""Strict comparisons of pytrees, and trees with noise.

chex.assert_trees_all_equal and assert_trees_all_close take a scalar for an
array that is filled with it, and an integer for a float of the same value.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np


def assert_equal(found: Any, *expected: Any) -> None:
  """Structures, shapes, dtypes and values are the same."""
  for tree in expected:
    for one, other in _leaves(found, tree):
      np.testing.assert_array_equal(one, other)


def assert_close(
  found: Any, *expected: Any, rtol: float = 1e-6, atol: float = 0.0
) -> None:
  """Structures, shapes and dtypes are the same, values to the tolerance."""
  for tree in expected:
    for one, other in _leaves(found, tree):
      np.testing.assert_allclose(one, other, rtol, atol)


def moved(tree: Any, scale: float, seed: int = 1) -> Any:
  """Normal noise added to every leaf: parameters away from a special start."""
  leaves, structure = jax.tree.flatten(tree)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return structure.unflatten(
    [
      leaf + scale * jax.random.normal(key, leaf.shape, leaf.dtype)
      for leaf, key in zip(leaves, keys, strict=True)
    ]
  )


def _leaves(*trees):
  """Pairs of arrays on the host, keys as their data."""
  host = [
    jax.tree.map(lambda x: x if _is_key(x) else np.asarray(x), t) for t in trees
  ]
  chex.assert_trees_all_equal_shapes_and_dtypes(*host)
  data = lambda x: np.asarray(jax.random.key_data(x)) if _is_key(x) else x
  flat = (map(data, jax.tree.leaves(tree)) for tree in host)
  return zip(*flat, strict=True)


def _is_key(x):
  return jnp.issubdtype(getattr(x, "dtype", np.dtype("O")), jax.dtypes.prng_key)
