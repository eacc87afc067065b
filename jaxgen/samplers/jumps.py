"""Solvers of flow maps: each step of the grid is one call of the map.

They run in `samplers.integrate` on a flow_maps.FlowMap; a grid of two times is
a sample in one call.
"""

import jax.numpy as jnp

from jaxgen import flow_maps
from jaxgen.samplers import driver


def jump_map() -> driver.Solver:
  """x = X(x, t, s) along the grid: exact for an exact map, whatever the grid.

  Reference: Boffi et al. 2024, arXiv:2406.07507.
  """

  def plan(path, times):
    return dict(t=times[:-1], s=times[1:])

  def step(field, key, x, c, memory):
    return flow_maps.jump(field, x, c["t"], c["s"]), memory

  return driver.Solver(
    "jump_map", plan, _init("jump_map"), step, lambda n: n, ()
  )


def renoised() -> driver.Solver:
  """Jumps to the last time of the grid, with new noise in between.

    data = X(x, t, t_N) / alpha(t_N),   x = alpha(s) data + sigma(s) z

  This is the multistep sampling of consistency models, whose maps end at t_N
  alone. The state at t_N is taken for alpha(t_N) data. The last step adds no
  noise.

  Reference: Song et al. 2023, arXiv:2303.01469, algorithm 1.
  """

  def plan(path, times):
    s, end = times[1:], times[-1]
    last = s == end
    return dict(
      t=times[:-1],
      end=jnp.full_like(s, end),
      keep=jnp.where(last, 1.0, path.alpha(s) / path.alpha(end)),
      std=jnp.where(last, 0.0, path.sigma(s)),
    )

  def step(field, key, x, c, memory):
    end = flow_maps.jump(field, x, c["t"], c["end"])
    noise = driver.normal(key, x)
    keep, std = (jnp.asarray(c[name], x.dtype) for name in ("keep", "std"))
    return keep * end + std * noise, memory

  needs = ("path",)
  return driver.Solver(
    "renoised", plan, _init("renoised"), step, lambda n: n, needs
  )


def _init(name):
  """Raises unless the field is a map that goes the way of the grid."""

  def init(field, key, x, times):
    if not isinstance(field, flow_maps.FlowMap):
      raise ValueError(
        f"field: expected a FlowMap, which {name} needs, got"
        f" {type(field).__name__}"
      )
    if not field.both_ways:
      driver.require_decreasing(name, times)
    return ()

  return init
