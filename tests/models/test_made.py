"""MADE's masks against their definition, and its orders."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import orders
from jaxgen.models import made
from tests import expect
from tests.models import twins

ORDER = np.array([2, 0, 3, 1])


def test_the_masks_of_four_coordinates():
  """Degrees by hand: coordinates (1, 3, 0, 2); hidden 0, 1, 2 and 0, 2."""
  first, second, last = made.masks(ORDER, (3, 2))
  np.testing.assert_array_equal(
    first, [[0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1]]
  )
  np.testing.assert_array_equal(second, [[1, 1], [0, 1], [0, 1]])
  np.testing.assert_array_equal(last, [[1, 1, 0, 1], [0, 1, 0, 0]])
  traced = jax.jit(lambda order: made.masks(order, (3, 2)))(ORDER)
  for one, other in zip(traced, (first, second, last), strict=True):
    np.testing.assert_array_equal(one, other)
  (direct,) = made.masks(ORDER, ())
  np.testing.assert_array_equal(direct.T, orders.before(ORDER))


@pytest.mark.parametrize("widths", [(), (3,), (9,), (4, 5, 3)])
def test_outputs_see_all_that_comes_before(widths):
  """The masks' product is the order's own, if D - 1 units hold all degrees."""
  for order in itertools.permutations(range(4)):
    field = made.receptive_field(made.masks(np.array(order), widths))
    np.testing.assert_array_equal(field, orders.before(np.array(order)))


def test_narrow_layers_see_no_more_than_they_may():
  field = made.receptive_field(made.masks(orders.raster(9), (3, 2)))
  assert not (field & ~np.tri(9, k=-1, dtype=bool)).any()
  assert field[-1].all() or field[-1, :-1].all()


@pytest.mark.parametrize("features", [(), (6, 5)])
def test_the_masks_receptive_field_is_the_jacobians(features):
  net = made.MADE(2, features)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((4, 3)))
  params = twins.randomise(shapes)

  @jax.jit
  def find(key, order):
    fn = lambda x: net.apply(params, x, None, order)
    return orders.receptive_field(key, fn, (4, 3)).any((1, 3))

  for order in (ORDER, np.arange(4), np.arange(4)[::-1]):
    truth = made.receptive_field(made.masks(order, features))
    np.testing.assert_array_equal(find(jax.random.key(1), order), truth)


def test_raster_is_the_default_and_one_coordinate_sees_nothing():
  net = made.MADE(2, (3,))
  x = jnp.array([[0.3], [-2.0]])
  params = twins.randomise(jax.eval_shape(net.init, jax.random.key(0), x))
  rows = [net.apply(params, x, None, order) for order in (None, np.arange(2))]
  np.testing.assert_array_equal(*rows)
  alone = net.clone(features=(2,))
  x = jnp.ones((1, 1))
  params = twins.randomise(jax.eval_shape(alone.init, jax.random.key(0), x))
  np.testing.assert_array_equal(alone.apply(params, x), alone.apply(params, -x))


def test_bad_orders_and_widths():
  net, x = made.MADE(2, (3,)), jnp.zeros((3, 1))
  start = lambda order: net.init(jax.random.key(0), x, None, order)
  for order in (np.array([0, 0, 1]), np.arange(2)):
    said = "^order: expected a permutation of 0, ..., 2, got"
    expect.error(said, start, order)
  expect.error("^order: expected", made.masks, np.array([1, 1]), ())
  expect.error("^widths: expected at least 1", made.masks, np.arange(2), (0,))
