"""Features by which the images of an autoencoder are compared with the data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.lib import functions

OWN = ("none", "random", "discriminator")


def make(
  place: str, network: Any, shape: tuple[int, ...], key: jax.Array
) -> Callable | None:
  """The features of a setting.

  Args:
    place: none; random, those of a network whose parameters are drawn once and
      stay; discriminator, those of the one in training; or module:function,
      images [N, H, W, C] -> features [N, ..., K] of one layer, or a tuple of
      several. jax must be able to differentiate the function.
    network: the Flax module of a discriminator, for random.
    shape: (H, W, C).
    key: draws the parameters of random.

  Returns:
    (judge, x [H, W, C]) -> features, each [..., K], where judge is the
    discriminator in training as a function of x; None for none.

  Raises:
    ValueError: the function cannot be imported, fails or has no derivative.
  """
  if place == "none":
    return None
  if place == "discriminator":
    return lambda judge, x: judge(x).features
  if place == "random":
    fixed = network.init(key, jnp.zeros(shape))
    return lambda judge, x: network.apply(fixed, x).features
  if ":" not in place:
    raise ValueError(
      f"features: expected one of {', '.join(OWN)} or module:function, got"
      f" {place!r}"
    )
  return _own(place, shape)


def _own(place, shape):
  """A function of the user's, after trying it."""
  fn = functions.load(place, "features")

  def features(judge, x):
    return tuple(layer[0] for layer in jax.tree.leaves(fn(x[None])))

  def total(x):
    return sum(jnp.sum(layer) for layer in features(None, x))

  try:
    layers = jax.eval_shape(lambda x: features(None, x), jnp.zeros(shape))
    jax.eval_shape(jax.grad(total), jnp.zeros(shape))
  except Exception as error:  # the user's code may raise anything
    raise ValueError(
      f"features: {place} fails on images {[1, *shape]}, or in its derivative"
      f" ({functions.line(error)})"
    ) from error
  if not layers or not all(layer.shape for layer in layers):
    raise ValueError(
      f"features: expected layers [N, ..., K] from {place}, got"
      f" {[[1, *layer.shape] for layer in layers]}"
    )
  return features
