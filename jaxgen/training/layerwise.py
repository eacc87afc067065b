"""Optimizers that treat the parameters of each layer in their own way.

Layers are named by patterns of paths, such as "params/conv_in/*" or "*/bias",
where * is any text, slashes too (as in fnmatch). A parameter belongs to the
first pattern that matches its path, so the pattern for all others, "*", is the
last.

For x = c y, y updated by gradient descent with rate r, x changes as with the
rate c^2 r; by Adam with eps = 0, as with c r. So a multiplier of the learning
rate is a reparametrisation of the layer, and the other way round.
"""

import fnmatch
import functools
from collections.abc import Iterable, Mapping

import jax
import optax
from jaxtyping import PyTree


def labels(params: PyTree, patterns: Iterable[str]) -> PyTree:
  """The pattern that each parameter belongs to, for optax.partition.

  Args:
    params: the parameters.
    patterns: patterns of paths; the first that matches counts.

  Returns:
    The patterns, a tree of the structure of params.

  Raises:
    ValueError: a parameter matches no pattern, or no parameter belongs to a
      pattern.
  """
  patterns = tuple(patterns)
  flat, structure = jax.tree_util.tree_flatten_with_path(params)
  names = [
    jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat
  ]
  match = fnmatch.fnmatchcase
  found = [next((p for p in patterns if match(n, p)), None) for n in names]
  if None in found:
    raise ValueError(
      f"patterns: expected one that matches {names[found.index(None)]}, got"
      f" {', '.join(patterns) or 'none'}"
    )
  shown = names if len(names) < 10 else [*names[:9], "..."]
  for pattern in patterns:
    if pattern not in found:
      raise ValueError(
        f"patterns: expected parameters that {pattern} is the first to match,"
        f" got {', '.join(shown)}"
      )
  return jax.tree.unflatten(structure, found)


def partition(
  transforms: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformation:
  """Transforms the gradient of each layer by its own transformation.

  Args:
    transforms: {pattern: transformation}, in the order of matching:
      optax.set_to_zero() freezes a layer, optax.identity() leaves its gradient
      unchanged.

  Returns:
    The transformation, optax.partition. Its `init` raises ValueError as
    `labels`.
  """
  named = functools.partial(labels, patterns=tuple(transforms))
  return optax.partition(transforms, named)


def scale(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
  """Multiplies the learning rate of each layer.

  It comes after the optimizer, optax.chain(optax.adam(rate), scale(...)).

  Args:
    multipliers: {pattern: factor}, in the order of matching.

  Returns:
    The transformation. Its `init` raises ValueError as `labels`.
  """
  return partition({k: optax.scale(m) for k, m in multipliers.items()})
