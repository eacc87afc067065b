"""Invertible maps with their log-determinants, and how to compose them.

A Bijector is a pair of functions. In a normalizing flow `forward` goes from
data to the latent, and the density of x is

  log p(x) = log p_latent(y) + log |det dy/dx|,
  (y, log |det dy/dx|) = forward(x)

Bijectors are built from arrays and from callables with their parameters bound
("conditioners"), inside the function that is differentiated: there is nothing
to initialise and nothing to store.

`elementwise` has the maps of single numbers, `linear_maps` the linear ones,
`arrangements` those that only move numbers, `inversion` the ways to invert an
autoregressive map.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgen import elementwise, inversion


class Bijector(NamedTuple):
  """An invertible map of arrays.

  Attributes:
    forward: x [*D] -> (y [*E], log |det dy/dx| []), with as many numbers in y.
    inverse: y [*E] -> (x [*D], log |det dx/dy| []).
  """

  forward: Callable[[Array], tuple[Array, Array]]
  inverse: Callable[[Array], tuple[Array, Array]]


def inverted(bijector: Bijector) -> Bijector:
  """The inverse map."""
  return Bijector(bijector.inverse, bijector.forward)


def chain(*bijectors: Bijector) -> Bijector:
  """The first one first: y = b_n(... b_1(x)); log-determinants add up."""

  def run(maps, x):
    total = jnp.zeros((), x.dtype)
    for fn in maps:
      x, log_det = fn(x)
      total = total + log_det
    return x, total

  return Bijector(
    functools.partial(run, [b.forward for b in bijectors]),
    functools.partial(run, [b.inverse for b in reversed(bijectors)]),
  )


def between(outer: Bijector, inner: Bijector) -> Bijector:
  """outer, inner, then the inverse of outer: inner in other coordinates."""
  return chain(outer, inner, inverted(outer))


def inverse_states(
  bijectors: Sequence[Bijector], y: Float[Array, "*D"]
) -> Float[Array, "T *D"]:
  """A latent and what each inverse makes of it, the last bijector's first.

  Args:
    bijectors: those of a chain, which keep the shape.
    y: the latent, [*D].

  Returns:
    [len(bijectors) + 1, *D]; the last state is the inverse of the chain.
  """
  found = [y]
  for bijector in reversed(bijectors):
    found.append(bijector.inverse(found[-1])[0])
  return jnp.stack(found)


def scanned(make: Callable[[Any], Bijector], params: Any) -> Bijector:
  """A chain of equal layers by one scan, which compiles one layer.

  Args:
    make: the parameters of one layer -> its bijector, which keeps the shape.
    params: those of all layers, leaves [N, ...].
  """

  def run(side, reverse, x):
    def body(carry, layer):
      x, total = carry
      y, log_det = getattr(make(layer), side)(x)
      return (y, total + log_det), None

    start = x, jnp.zeros((), x.dtype)
    return jax.lax.scan(body, start, params, reverse=reverse)[0]

  return Bijector(
    functools.partial(run, "forward", False),
    functools.partial(run, "inverse", True),
  )


def pointwise(
  family: elementwise.Elementwise, params: Float[Array, "*D K"]
) -> Bijector:
  """An elementwise map with fixed parameters."""
  return of_functions(
    functools.partial(family.forward, params),
    functools.partial(family.inverse, params),
  )


def of_functions(forward: Callable, inverse: Callable) -> Bijector:
  """From x [*D] -> (y [*D], log dy/dx [*D]) and its inverse."""

  def run(fn, x):
    y, log_slopes = fn(x)
    return y, jnp.sum(log_slopes)

  return Bijector(
    functools.partial(run, forward), functools.partial(run, inverse)
  )


def coupling(
  mask: np.ndarray,
  conditioner: Callable[[Array], Array],
  family: elementwise.Elementwise,
) -> Bijector:
  """Coordinates where mask is True are kept and condition the others.

    y_kept = x_kept,   y_moved = f(x_moved; conditioner(x_kept))

  Args:
    mask: which coordinates are kept, [*D] booleans, constant.
    conditioner: the kept coordinates, flat [M], -> parameters of the others,
      [D - M, K] or as many numbers in any shape.
    family: the map f, with K parameters.

  Raises:
    ValueError: mask keeps all or none, x has another shape than mask, or the
      conditioner gives another number of parameters.

  Reference: Dinh et al. 2017, arXiv:1605.08803, eq. 4 to 7.
  """
  mask = np.asarray(mask, bool)
  kept, moved = np.flatnonzero(mask), np.flatnonzero(~mask)
  back = np.argsort(np.concatenate([kept, moved]))
  if not (len(kept) and len(moved)):
    raise ValueError("mask: expected True and False, got one of them alone")

  def run(fn, x):
    if x.shape != mask.shape:
      raise ValueError(
        f"x: expected the mask's shape {mask.shape}, got {x.shape}"
      )
    flat = x.ravel()
    params = conditioner(flat[kept])
    if params.size != len(moved) * family.num_params:
      raise ValueError(
        f"conditioner: expected {len(moved)} x {family.num_params} numbers"
        f" for {family.name}, got shape {params.shape}"
      )
    y, log_slopes = fn(params.reshape(len(moved), -1), flat[moved])
    y = jnp.concatenate([flat[kept], y])[back].reshape(x.shape)
    return y, jnp.sum(log_slopes)

  return Bijector(
    functools.partial(run, family.forward),
    functools.partial(run, family.inverse),
  )


def autoregressive(
  conditioner: Callable[[Array], Array],
  family: elementwise.Elementwise,
  invert: Callable | None = None,
) -> Bijector:
  """y_i = f(x_i; conditioner(x)_i), where conditioner(x)_i reads x_<i alone.

  Forward is one call for all positions. A position may be a number (x [T]) or a
  token (x [T, P]), whose coordinates are then independent given those before.

  Args:
    conditioner: x [T, *P] -> parameters [T, *P, K], causal in the first axis.
    family: the map f, with K parameters.
    invert: (conditioner, family, y) -> x, such as inversion.sequential (the
      default), or a partial of inversion.jacobi or inversion.cached.

  Raises:
    ValueError: the parameters' shape is not [T, *P, K].

  Reference: Papamakarios et al. 2017, arXiv:1705.07057.
  """
  conditioner = _checked(conditioner, family)
  invert = invert or inversion.sequential

  def forward(x):
    y, log_slopes = family.forward(conditioner(x), x)
    return y, jnp.sum(log_slopes)

  def inverse(y):
    x = invert(conditioner, family, y)
    return x, -jnp.sum(family.forward(conditioner(x), x)[1])

  return Bijector(forward, inverse)


def _checked(
  conditioner: Callable, family: elementwise.Elementwise
) -> Callable:
  """The conditioner, which raises where its parameters have a wrong shape."""

  def call(x):
    params = conditioner(x)
    if params.shape != (*x.shape, family.num_params):
      raise ValueError(
        f"conditioner: expected shape {(*x.shape, family.num_params)} for"
        f" {family.name}, got {params.shape}"
      )
    return params

  return call


def multi_scale(shape: tuple[int, ...], *stages: Bijector) -> Bijector:
  """After each stage but the last, half of the channels become final.

  Args:
    shape: of x, [*D].
    stages: bijectors; each is applied to the first half of the channels (the
      last axis) of the one before.

  Returns:
    A bijector to flat y [D]: the final halves in order, then the last stage.

  Raises:
    ValueError: a stage gives an odd number of channels.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 3.6.
  """
  outs, x = [], jax.ShapeDtypeStruct(shape, "float32")
  for stage in stages:
    y = jax.eval_shape(lambda x, stage=stage: stage.forward(x)[0], x)
    outs.append(y.shape)
    if len(outs) < len(stages) and y.shape[-1] % 2:
      raise ValueError(f"stages: expected even channels, got shape {y.shape}")
    x = jax.ShapeDtypeStruct((*y.shape[:-1], y.shape[-1] // 2), "float32")
  sizes = [math.prod(s) // 2 for s in outs[:-1]]

  def forward(x):
    parts, total = [], jnp.zeros((), x.dtype)
    for stage in stages[:-1]:
      y, log_det = stage.forward(x)
      x, out = jnp.split(y, 2, axis=-1)
      parts, total = [*parts, out.ravel()], total + log_det
    y, log_det = stages[-1].forward(x)
    return jnp.concatenate([*parts, y.ravel()]), total + log_det

  def inverse(y):
    *parts, rest = jnp.split(y, np.cumsum(sizes))
    x, total = stages[-1].inverse(rest.reshape(outs[-1]))
    for stage, out, part in zip(
      stages[-2::-1], outs[-2::-1], parts[::-1], strict=True
    ):
      half = part.reshape(*out[:-1], out[-1] // 2)
      x, log_det = stage.inverse(jnp.concatenate([x, half], axis=-1))
      total = total + log_det
    return x, total

  return Bijector(forward, inverse)
