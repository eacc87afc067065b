"""Orders of the coordinates of an autoregressive model, and who sees whom.

  log p(x) = sum_i log p(x_(o_i) | x_(o_0), ..., x_(o_(i-1)))

An order o is a permutation of 0, ..., D - 1: o_i is the coordinate at place i.
Raster order, (0, 1, 2, ...), takes an array's entries as they lie in memory.
Coordinates of arrays [*D] are counted in raster order.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxgen import keys


def raster(size: int) -> Int[np.ndarray, "D"]:
  """The order 0, ..., D - 1."""
  return np.arange(size)


def require(order: Array | np.ndarray, size: int) -> None:
  """Raises unless an order is a permutation; traced values are not checked.

  Raises:
    ValueError: order is no permutation of 0, ..., size - 1.
  """
  shape = jnp.shape(order)
  fault = f"shape {shape}" if shape != (size,) else ""
  if not fault and not isinstance(order, jax.core.Tracer):
    found = np.asarray(order)
    if not np.array_equal(np.sort(found), np.arange(size)):
      fault = f"{found.tolist()}"
  if fault:
    raise ValueError(
      f"order: expected a permutation of 0, ..., {size - 1}, got {fault}"
    )


def places(order: Array | np.ndarray) -> Array:
  """The place of each coordinate, the inverse permutation, [D].

  Raises:
    ValueError: order is no permutation.
  """
  require(order, jnp.size(order))
  return jnp.argsort(jnp.asarray(order))


def before(order: Array | np.ndarray) -> Bool[Array, "D D"]:
  """Whether coordinate j (column) comes before coordinate i (row).

  This is what an autoregressive model may see.

  Raises:
    ValueError: order is no permutation.
  """
  place = places(order)
  return place[None, :] < place[:, None]


def arrange(
  params_fn: Callable[[Array], Array], order: Array | np.ndarray
) -> Callable[[Array], Array]:
  """A model of sequences, as a model of arrays that takes them in an order.

    params[o_i] = params_fn((x_(o_0), x_(o_1), ...))_i

  Args:
    params_fn: a sequence [D] -> its parameters [D, K], row i from entries
      before i.
    order: o, [D].

  Returns:
    A function from an array of D entries, [*D], to its parameters, [*D, K].

  Raises:
    ValueError: order is no permutation, or (when called) of another size.
  """
  place = places(order)

  def arranged(x):
    require(order, x.size)
    params = params_fn(x.ravel()[jnp.asarray(order)])[place]
    return params.reshape(*x.shape, *params.shape[1:])

  return arranged


def receptive_field(
  key: Array,
  fn: Callable[[Array], Array],
  shape: tuple[int, ...],
  num_points: int = 2,
) -> Bool[Array, "..."]:
  """Which inputs each output of a function depends on, from its Jacobian.

  An entry is True if the derivative differs from zero at one of several random
  points. A dependence whose derivative is zero almost everywhere, such as that
  of rounding, is not seen, and neither is one through weights that are zero: a
  network whose last layer starts at zero needs other parameters first.

  Args:
    key: a typed key, for standard normal points.
    fn: [*D] -> [*E], with a reverse mode.
    shape: *D.
    num_points: number of points, at least 1.

  Returns:
    True where the output depends on the input, [*E, *D].

  Raises:
    ValueError: num_points is below 1, or key is a legacy key.
  """
  keys.require_typed(key)
  if num_points < 1:
    raise ValueError(f"num_points: expected at least 1, got {num_points}")
  points = jax.random.normal(key, (num_points, math.prod(shape)))
  slopes = jax.vmap(jax.jacrev(lambda x: fn(x.reshape(shape))))(points)
  seen = (slopes != 0).any(0)
  return seen.reshape(*seen.shape[:-1], *shape)
