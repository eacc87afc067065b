"""The second time of consistency: half of the way, or a step of a grid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lib import datasets
from experiments.recipes import diffusion, flow_maps
from jaxgen import paths
from jaxgen.samplers import grids
from tests.experiments import scripts


def second_times(**changes):
  """(settings, (t, s, step) -> (t, r, span)) of small maps on the plane."""
  config = scripts.small("flow map", "", **changes)
  data = datasets.load(config)
  config = flow_maps.resolve(diffusion.resolve(config, data))
  model = flow_maps.make(config, data)
  found = functools.partial(flow_maps.second_times, config, model)
  return config, jax.jit(found)


T = jnp.linspace(0.1, 0.9, 50)
S = jnp.full_like(T, 0.05)


@pytest.mark.parametrize("step, part", [(0, 1 / 2), (5, 1 / 8), (7, 1 / 16)])
def test_the_way_is_halved_in_stages(step, part):
  changes = dict(stages=4, num_steps=8)
  _, find = second_times(method="consistency", **changes)
  t, r, span = find(T, S, step)
  np.testing.assert_array_equal(t, T)
  np.testing.assert_allclose(r, T - (T - S) * part, rtol=1e-6)
  np.testing.assert_allclose(span, (T - S) * part, rtol=1e-5)


@pytest.mark.parametrize("step, number", [(0, 10), (5, 40), (7, 80)])
def test_the_steps_of_the_grid_are_doubled_in_stages(step, number):
  changes = dict(stages=4, num_steps=8, gap="grid")
  config, find = second_times(method="consistency", **changes)
  t, r, span = find(T, S, step)
  limits = config.ratio_min, config.ratio_max
  grid = np.asarray(grids.karras(paths.linear(), number, *limits))[::-1]
  above = np.searchsorted(grid, T)
  np.testing.assert_allclose(t, grid[above], rtol=1e-5)
  np.testing.assert_allclose(r, grid[above - 1], rtol=1e-5)
  ratio = grid / (1 - grid)  # of the linear path
  np.testing.assert_allclose(span, np.diff(ratio)[above - 1], rtol=1e-3)
  assert t.dtype == r.dtype == span.dtype == T.dtype


def test_other_methods_have_no_second_time():
  _, find = second_times(method="shortcut")
  t, *gap = find(T, S, 0)
  np.testing.assert_array_equal(t, T)
  assert gap == [None, None]
