"""data.toy: settings at their edges, curves and arms by their formulas."""

import math

import jax
import numpy as np
import pytest

from jaxgen.data import loaders, pairs, toy
from tests import expect
from tests.data import test_toy


def draws(law, number=400):
  return test_toy.draw(law, number, seed=2)


def test_the_smallest_board_has_two_black_cells():
  law = toy.checkerboard(2, 0.5)
  x = draws(law)
  assert np.abs(x).max() <= 0.5 and np.all(x[:, 0] * x[:, 1] >= 0)
  assert 0.4 < np.mean(x[:, 0] > 0) < 0.6
  points = np.float32([[0.25, 0.25], [-0.25, -0.1], [0.25, -0.25], [0.6, 0.6]])
  found = jax.jit(jax.vmap(lambda x: law.log_prob(x)))(points)
  inside = -math.log(0.5)
  np.testing.assert_allclose(found, [inside, inside, -np.inf, -np.inf])
  for bad in (-2, 0, 1, 3):
    expect.error("^num_cells: expected even", toy.checkerboard, bad)
  for bad in (0.0, -1.0):
    expect.error("^half_width: expected", toy.checkerboard, 2, bad)


def test_arms_without_width_are_points():
  """radius scale, at -(2 pi arm / N + rate e)."""
  for number, rate, scale in ((1, 0.25, 2.0), (3, 0.1, 0.5)):
    law = toy.pinwheel(number, 0.0, 0.0, rate, scale)
    angle = 2 * np.pi * np.arange(number) / number + rate * np.e
    truth = scale * np.stack([np.cos(angle), -np.sin(angle)], 1)
    gaps = np.abs(draws(law, 60)[:, None] - truth).max(2)
    assert gaps.min(1).max() < 1e-5 and gaps.min(0).max() < 1e-5
  for bad in (0, -1):
    expect.error("^num_arms: expected", toy.pinwheel, bad)
  for bad in (0.0, -1.0):
    expect.error("scale: expected", toy.pinwheel, 5, scale=bad)


@pytest.mark.parametrize(
  "make, residual",
  [
    # Half circles around (0, 0), above, and (1, 1/2), below.
    (
      toy.moons,
      lambda x, y: np.minimum(
        np.abs(np.hypot(x, y) - 1) + (y < -1e-6),
        np.abs(np.hypot(x - 1, y - 0.5) - 1) + (y > 0.5 + 1e-6),
      ),
    ),
    # Circles around (0, 1), from its left over its top, and (0, -1).
    (
      toy.s_curve,
      lambda x, y: np.minimum(
        np.abs(np.hypot(x, y - 1) - 1) + ((x > 1e-6) & (y < 1 - 1e-6)),
        np.abs(np.hypot(x, y + 1) - 1) + ((x < -1e-6) & (y > 1e-6 - 1)),
      ),
    ),
    # The radius is the angle.
    (
      toy.swiss_roll,
      lambda x, y: np.hypot(
        x - np.hypot(x, y) * np.cos(np.hypot(x, y)),
        y - np.hypot(x, y) * np.sin(np.hypot(x, y)),
      ),
    ),
  ],
)
def test_curves_without_noise_are_their_curves(make, residual):
  shift = dict(shift=0.0) if make is toy.moons else {}
  law = make(0.0, scale=0.5, **shift)
  assert law.log_prob is None
  x, y = 2 * draws(law).T
  assert np.abs(residual(x, y)).max() < 2e-5
  assert make(0.5).log_prob is not None
  for bad in (-0.1, -1e-3, math.nan):
    expect.error("^noise: expected zero or more", make, bad)
  for bad in (0.0, -1.0):
    expect.error("^scale: expected a positive number", make, 0.1, scale=bad)


def test_a_ring_of_any_size():
  law = toy.eight_gaussians(0.5, 0.01)
  x = draws(law)
  angle = np.arctan2(x[:, 1], x[:, 0]) / (np.pi / 4)
  assert np.abs(np.hypot(*x.T) - 0.5).max() < 0.05
  assert np.abs(angle - np.rint(angle)).max() < 0.15
  assert len(np.unique(np.rint(angle) % 8)) == 8
  for name, bad in (("radius", 0.0), ("radius", -1.0), ("std", 0.0)):
    said, settings = f"^{name}: expected a positive number", {name: bad}
    expect.error(said, toy.eight_gaussians, **settings)


def test_batches_of_one():
  rows = np.arange(3)
  found = [loaders.batches(rows, jax.random.key(0), 1)(n)[0] for n in range(3)]
  assert sorted(found) == [0, 1, 2]
  same = lambda number: np.full(1, number)
  batch = pairs.batches(
    lambda number: (same(number), None), same, jax.random.key(0), 1, None, 1
  )
  assert [batch(n)[0][0] for n in (0, 5)] == [0, 5]
  one = loaders.prefetch(lambda step: step, place=lambda step: -step, depth=1)
  assert [one(n) for n in (0, 1, 5)] == [0, -1, -5]
