"""Orders and receptive fields against NumPy and known functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import orders
from tests import expect

ORDER = np.array([2, 0, 3, 1])


def test_places_and_what_comes_before():
  np.testing.assert_array_equal(orders.raster(3), [0, 1, 2])
  places = jax.jit(orders.places)(ORDER)
  np.testing.assert_array_equal(places, [1, 3, 0, 2])
  np.testing.assert_array_equal(places, orders.places(ORDER))
  truth = np.zeros((4, 4), bool)
  for i, coordinate in enumerate(ORDER):
    truth[coordinate, ORDER[:i]] = True
  found = jax.vmap(orders.before)(np.stack([ORDER, ORDER[::-1]]))
  np.testing.assert_array_equal(found[0], truth)
  np.testing.assert_array_equal(found[1], truth.T)


def test_a_sequence_model_sees_an_array_in_the_order():
  """Row i of this model lists the sum and the number of entries before i."""

  def params_fn(x):
    before = jnp.cumsum(x) - x
    return jnp.stack([before, jnp.arange(x.size) + 0.0 * before], -1)

  x = jnp.array([[1.0, 10.0], [100.0, 1000.0]])
  arranged = orders.arrange(params_fn, ORDER)
  truth = [[[100, 1], [1101, 3]], [[0, 0], [101, 2]]]
  np.testing.assert_array_equal(arranged(x), truth)
  expect.a_loop(arranged, np.stack([x, 2 * x]))
  expect.error(
    r"^order: expected .* 0, ..., 5, got shape", arranged, np.ones(6)
  )


@pytest.mark.parametrize(
  "order", [[0, 1, 1], [1, 2, 3], [0, 1, -1], [[0, 1, 2]], [0.5, 1.0, 2.0]]
)
def test_what_is_no_permutation_is_rejected(order):
  order = np.array(order)
  said = "^order: expected a permutation of 0, ..., 2, got"
  expect.error(said, orders.require, order, 3)
  for call in (orders.places, orders.before):
    expect.error("^order: expected a permutation", call, order)
  expect.error("^order: expected a permutation", orders.arrange, jnp.sin, order)


def test_the_receptive_field_of_known_functions():
  matrix = np.array([[0, 2, 0], [1, 0, 0], [0, 0, 0], [-3, 1, 1]], "float32")
  linear = lambda x: matrix @ x
  find = lambda key: orders.receptive_field(key, linear, (3,))
  for call in (find, jax.jit(find)):
    np.testing.assert_array_equal(call(jax.random.key(0)), matrix != 0)
  blur = lambda x: jnp.stack([x[0] * x[1].sum(), jnp.sin(x[1]) + x[0]])
  key = jax.random.key(1)
  found = orders.receptive_field(key, blur, (2, 2), num_points=1)
  assert found.shape == (2, 2, 2, 2) and found.dtype == bool
  assert found[0, 0, 0].tolist() == [True, False] and found[0, 0, 1].all()
  np.testing.assert_array_equal(found[1, 0], [[True, False]] * 2)


def test_a_dependence_at_some_points_only_needs_more_points():
  kinked = lambda x: jax.nn.relu(x[:1])
  find = lambda key: orders.receptive_field(key, kinked, (2,), 64)
  found = jax.jit(find)(jax.random.key(0))
  np.testing.assert_array_equal(found, [[True, False]])


def test_bad_points_and_keys():
  field = orders.receptive_field
  said = "^num_points: expected at least 1, got 0"
  expect.error(said, field, jax.random.key(0), jnp.sin, (2,), 0)
  expect.error("^key: ", field, jax.random.PRNGKey(0), jnp.sin, (2,))
