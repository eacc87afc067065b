"""Perceptrons of one point without a time: critics, potentials and maps.

  h = s(W_1 x + b_1),  h = s(W_2 h + b_2) ...,  perceptron = W h + b

  Potential   f(x) = perceptron(x) + <x, M x> / 2     [*D] -> []
  Map         T(x) = perceptron(x) + M x              [*D] -> [*D]

Transport between similar distributions is mostly linear, which a perceptron
learns slowly; the full, learned matrix M represents it directly. Without M,
f is the critic of the W1 games.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class Potential(nn.Module):
  """A function of one example, [*D] to [].

  Attributes:
    features: width of each hidden layer.
    activation: s; it must be smooth if f's Hessian is needed.
    quadratic: M is initialised to this times I; None omits M.
  """

  features: tuple[int, ...] = (64, 64)
  activation: Callable = nn.silu
  quadratic: float | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "*D"]) -> Float[Array, ""]:
    """f(x).

    Raises:
      ValueError: a width is below 1.
    """
    x = x.ravel()
    f = _perceptron(x, self.features, self.activation, 1)[0]
    return f + jnp.dot(x, _linear(self, x, self.quadratic)) / 2


class Map(nn.Module):
  """A map of one example, [*D] to [*D].

  Attributes:
    features: width of each hidden layer.
    activation: s.
    linear: M is initialised to this times I; None omits M.
  """

  features: tuple[int, ...] = (64, 64)
  activation: Callable = nn.silu
  linear: float | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "*D"]) -> Float[Array, "*D"]:
    """T(x).

    Raises:
      ValueError: a width is below 1.
    """
    flat = x.ravel()
    moved = _perceptron(flat, self.features, self.activation, x.size)
    return (moved + _linear(self, flat, self.linear)).reshape(x.shape)


def _perceptron(h, features, activation, width):
  if min(features, default=1) < 1:
    raise ValueError(f"features: expected widths >= 1, got {features}")
  for i, hidden in enumerate(features):
    h = activation(nn.Dense(hidden, name=f"hidden_{i}")(h))
  return nn.Dense(width, name="out")(h)


def _linear(module, x, start):
  """M x with the module's own M, or 0 if it has none."""
  if start is None:
    return jnp.zeros_like(x)
  identity = lambda _, size: start * jnp.eye(size, dtype=jnp.float32)
  return module.param("matrix", identity, x.size) @ x
