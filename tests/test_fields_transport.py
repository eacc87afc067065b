"""fields of transport: unit speed at every slope, held maps, rejected input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, paths, predictions
from tests import expect


@pytest.mark.parametrize("slope", [1e-6, 0.01, 0.3, 1.0, 7.0])
@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_from_critic_moves_at_unit_speed_whatever_the_slope(slope, shape):
  along = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
  along /= np.linalg.norm(along)
  weights = jnp.asarray(slope * along, jnp.float32)
  field = fields.from_critic(lambda x: jnp.sum(weights * x) + 5.0)
  at = jax.jit(field)(jnp.zeros(shape), 0.0)
  assert at.velocity.shape == shape and at.velocity.dtype == jnp.float32
  np.testing.assert_allclose(at.velocity, along, rtol=1e-5)
  assert at[1:] == (None, None, None, None) and field.path is None


def test_from_critic_of_a_curved_critic_and_where_it_is_flat():
  # f = -.1 |x|^2: toward 0 at unit speed, and at rest there.
  field = fields.from_critic(lambda x: -0.1 * jnp.sum(x**2))
  x = jnp.array([[3.0, -4.0], [0.03, 0.04], [0.0, 0.0]])
  at = jax.vmap(field, (0, None))(x, 0.0)
  truth = [[-0.6, 0.8], [-0.6, -0.8], [0.0, 0.0]]
  np.testing.assert_allclose(at.velocity, truth, rtol=1e-6)


@pytest.mark.parametrize("critic", [lambda x: x, lambda x: jnp.sum(x)[None]])
def test_from_critic_rejects_what_is_no_scalar(critic):
  field = fields.from_critic(critic)
  expect.error(r"expected a scalar \[\]", field, jnp.ones(2), 0.0)


def test_from_frozen_map_decays_toward_its_end():
  matrix, start = jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([1.0, -1.0])
  field = fields.from_frozen_map(lambda x: matrix @ x + 1, start)
  end = np.array([2.0, -2.0])
  for x, t in (([1.0, -1.0], 0.0), ([7.0, 0.5], 0.3)):
    at = field(jnp.array(x), t)
    np.testing.assert_allclose(at.velocity, end - x)
    assert at[1:] == (None, None, None, None)
  assert field.path is None


@pytest.mark.parametrize("lacks", ["data", "noise"])
def test_on_path_needs_both_of_data_and_noise(lacks):
  path = paths.edm()
  whole = fields.from_prediction(lambda x, t: x, path, predictions.data)
  part = fields.Field(lambda x, t: whole(x, t)._replace(**{lacks: None}), path)
  said, moved = "on_path: expected a field that gives", fields.on_path
  expect.error(said, moved(part, paths.linear()), jnp.ones(2), 0.5)
