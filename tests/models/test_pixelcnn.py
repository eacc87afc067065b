"""The PixelCNN's receptive field: its closed form against the Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import orders
from jaxgen.models import pixelcnn
from tests.models import twins

HEIGHT, WIDTH = 6, 7


@pytest.mark.parametrize(
  "settings",
  [
    dict(depth=1, first_kernel=3, kernel=3),
    dict(depth=2, first_kernel=1, kernel=3),
    dict(depth=1, first_kernel=5, kernel=1),
    dict(depth=1, first_kernel=1, kernel=5),
  ],
  ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_the_closed_form_is_the_jacobians(settings):
  net = pixelcnn.PixelCNN(2, width=2, **settings)
  x = jnp.zeros((HEIGHT, WIDTH, 1))
  params = twins.randomise(jax.eval_shape(net.init, jax.random.key(0), x))

  @jax.jit
  def find(key):
    fn = lambda x: net.apply(params, x)
    field = orders.receptive_field(key, fn, x.shape, num_points=1)
    return field.any((2, 5))

  truth = pixelcnn.receptive_field(HEIGHT, WIDTH, net)
  np.testing.assert_array_equal(find(jax.random.key(1)), truth)


def test_deep_stacks_see_all_that_comes_before():
  net = pixelcnn.PixelCNN(2, depth=5, first_kernel=3)
  field = pixelcnn.receptive_field(4, 4, net).reshape(16, 16)
  np.testing.assert_array_equal(field, np.tri(16, k=-1, dtype=bool))


def test_the_published_blind_spot_is_seen():
  """Pixels above and to the right, which stacked masks of one kind miss."""
  net = pixelcnn.PixelCNN(2, depth=1, first_kernel=3, kernel=3)
  field = pixelcnn.receptive_field(8, 8, net)[4, 3]
  rows = ["".join(".#"[int(seen)] for seen in row) for row in field]
  assert rows == [
    "........",
    ".#####..",
    ".#####..",
    ".#####..",
    "###.....",
    "........",
    "........",
    "........",
  ]


def test_the_gate():
  x = jnp.array([0.5, -1.0, 2.0, 0.0])
  truth = np.tanh([0.5, -1.0]) / (1 + np.exp([-2.0, 0.0]))
  np.testing.assert_allclose(pixelcnn.gate(x), truth, rtol=1e-6)
