"""Every autoregressive network, small, as a model of sequences [D, F]."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.models import causal, made, nade, pixelcnn, recurrent
from tests.models import twins

LENGTH, LEVELS = 4, 3
SETTINGS = dict(num_classes=2)


class Case(NamedTuple):
  """A network, and the shape in which it takes the sequence."""

  net: Any
  shape: tuple[int, ...]
  has_step: bool


def cases(length=LENGTH, levels=LEVELS):
  """{name: Case}, for one-hot vectors of levels."""
  flat, image = (length,), (2, length // 2)
  size = dict(length=length, out_features=levels, **SETTINGS)
  return {
    "nade": Case(nade.NADE(in_features=levels, width=5, **size), flat, True),
    "made": Case(made.MADE(levels, (7, 6), **SETTINGS), flat, False),
    "fvsbn": Case(made.MADE(levels, (), **SETTINGS), flat, False),
    "pixelcnn": Case(
      pixelcnn.PixelCNN(levels, width=3, depth=2, **SETTINGS), image, False
    ),
    "gru": Case(recurrent.Recurrent(width=4, depth=2, **size), flat, True),
    "lstm": Case(recurrent.Recurrent(cell="lstm", width=4, **size), flat, True),
    "transformer": Case(
      causal.Transformer(width=4, depth=2, num_heads=2, **size), flat, True
    ),
  }


def one_hot(levels):
  return jax.nn.one_hot(levels, LEVELS)


def started(case, seed=None):
  """Its parameters: random ones without a seed, else those that it inits."""
  x = jnp.zeros((*case.shape, LEVELS))
  if seed is None:
    start = lambda x: case.net.init(jax.random.key(0), x)
    return twins.randomise(jax.eval_shape(start, x))
  return jax.jit(case.net.init)(jax.random.key(seed), x)


def apply(case, params, x, label=None, **kwargs):
  """The network as [D, F] -> [D, K]."""
  out = case.net.apply(params, x.reshape(*case.shape, -1), label, **kwargs)
  return out.reshape(x.shape[0], -1)
