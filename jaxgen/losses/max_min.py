"""The max-min game of a transport map against a potential, over a batch.

  max_f min_T  E [c(x, T(x)) - f(T(x))] + E f(y)

Reference: Korotin et al. 2023, arXiv:2201.12220, eq. 14.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen import costs
from jaxgen.losses import transport_maps, wasserstein


def against(
  potential_fn: Callable, map_fn: Callable, cost: costs.Cost
) -> tuple[Callable, Callable]:
  """The losses of both players: the map's, then the potential's.

    map         mean_i  c(x_i, T(x_i)) - f(T(x_i))
    potential   mean_i  f(T(x_i)) - f(y_i)

  Args:
    potential_fn: (params, y [*D]) -> f(y) [], high on the target.
    map_fn: (params, x [*D]) -> T(x) [*D].
    cost: c, such as costs.square.

  Returns:
    Two functions (map's params, potential's params, source [B, *D],
    target [B, *D]) -> loss [].
  """
  bind = functools.partial

  def of_map(maps, potentials, source, target):
    f, move = bind(potential_fn, potentials), bind(map_fn, maps)
    one = lambda x: transport_maps.mover(f, move, x, cost=cost)
    return jnp.mean(jax.vmap(one)(source))

  def of_potential(maps, potentials, source, target):
    moved = jax.vmap(bind(map_fn, maps))(source)
    one = bind(wasserstein.dual, bind(potential_fn, potentials))
    return jnp.mean(jax.vmap(one)(target, moved))

  return of_map, of_potential
