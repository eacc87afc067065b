"""A network of padded images: the network on images padded by NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import dit, padded, unet
from tests import expect
from tests.models import twins

X = jnp.float32(np.random.RandomState(0).normal(size=(3, 5, 7, 2)))
UNET = unet.UNet(4, (1, 2), num_groups=2, embedding_width=4, num_classes=3)


class Last(nn.Module):
  """The input plus t, plus its last row: what the margins contain is seen."""

  @nn.compact
  def __call__(self, x, t, label=None, *, train=False):
    return x + t + x[-1:] * (0 if label is None else label) + 10.0 * train

  @nn.nowrap
  def check(self, shape, label):
    raise ValueError(f"x: got {shape} and {label}")


@pytest.mark.parametrize("multiple", [2, 3, 4])
def test_it_is_the_network_on_a_padded_image(multiple):
  net = padded.fit(Last(), X[0].shape, multiple)
  found = net.apply({}, X[0], 0.5, 2, train=True)
  margins = []
  for side in X[0].shape[:2]:
    total = -(side // -multiple) * multiple - side
    margins.append((total // 2, (total + 1) // 2))
  large = np.pad(X[0], [*margins, (0, 0)], "edge")
  assert all(side % multiple == 0 for side in large.shape[:2])
  whole = large + 0.5 + 2 * large[-1:] + 10
  (top, _), (left, _) = margins
  np.testing.assert_allclose(found, whole[top : top + 5, left : left + 7])


def test_sides_that_fit_need_no_padding():
  for multiple in (1, 5):
    net = dit.DiT(patch=1)
    assert padded.fit(net, (5, 10, 2), multiple) is net
  assert padded.fit(net, (5, 10, 2), 2) == padded.Padded(net, 2)


def test_a_side_below_the_multiple_is_rejected():
  said = "multiple: expected sides of at least 6 pixels.*, got 5 x 7$"
  expect.error(said, padded.fit, UNET, (5, 7, 2), 6)


def test_the_network_checks_the_padded_size():
  net = padded.fit(Last(), (5, 7, 2), 4)
  expect.error(r"x: got \(8, 8, 2\) and 3", net.check, (5, 7, 2), 3)


def test_one_trace_and_vmap_is_a_loop():
  net = padded.fit(UNET, X[0].shape, 2)
  start = lambda net, x: net.init(jax.random.key(0), x, 0.0)
  params = twins.randomise(jax.eval_shape(lambda: start(net, X[0])))
  plain = jax.eval_shape(lambda: start(UNET, jnp.zeros((6, 8, 2))))
  same = jax.tree.structure(params["params"]["net"])
  assert same == jax.tree.structure(plain["params"])
  apply = lambda *example: net.apply(params, *example)
  examples = X, np.float32([0.1, 0.5, 0.9]), np.int32([0, 1, 3])
  rows = expect.a_loop(apply, *examples, rtol=1e-5, atol=1e-5)
  assert rows.shape == X.shape and np.ptp(rows) > 0.1
  own = UNET.apply(
    {"params": params["params"]["net"]},
    jnp.asarray(np.pad(X[0], [(0, 1), (0, 1), (0, 0)], "edge")),
    *(array[0] for array in examples[1:]),
  )
  np.testing.assert_allclose(rows[0], own[:5, :7], rtol=1e-4, atol=1e-5)
