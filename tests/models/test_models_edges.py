"""The edges of what settings may be: the last valid one and the first beyond.

Networks are built abstractly, so that none of it is compiled.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import (
  dit,
  gan,
  icnn,
  layers,
  lipschitz,
  mlp,
  potentials,
  unbatched,
  unet,
)
from tests import expect


def shapes_of(net, shape, *args):
  """The output and the parameters."""
  start = lambda x: net.init_with_output(jax.random.key(0), x, *args)
  found = jax.eval_shape(start, jax.ShapeDtypeStruct(shape, jnp.float32))
  return found[0].shape, jax.tree.map(jnp.shape, found[1]["params"])


WIDTHS = "^features: expected (widths|at least one width, each) >= 1"


def test_widths_of_perceptrons():
  """One unit is enough; no hidden layer only where the docs have none."""
  plain = mlp.MLP, potentials.Potential, potentials.Map
  for kind in (*plain, gan.Discriminator, icnn.ICNN, lipschitz.Network):
    time = (0.5,) if kind is mlp.MLP else ()
    one = dict(constrain=lambda kernel: kernel, activation=jnp.sin)
    extra = one if kind is lipschitz.Network else {}
    valid = [(1,), (3, 1)]
    if kind in (*plain, lipschitz.Network):
      valid.append(())
    for features in valid:
      out, params = shapes_of(kind(features, **extra), (2,), *time)
      assert out == ((2,) if kind in (mlp.MLP, potentials.Map) else ())
      hidden = [name for name in params if name.startswith("hidden")]
      assert len(hidden) in (0, len(features))
    for features in ((0,), (0, 3), (3, 0), (-1,)):
      net = kind(features, **extra)
      expect.error(WIDTHS, shapes_of, net, (2,), *time)
  for features in ((0, 3), (3, 0), ()):
    net = gan.Generator((2,), features)
    expect.error(r"^features: expected", shapes_of, net, (2,))
  net = lipschitz.Network((2,), num_outputs=1)
  assert shapes_of(net, (2,))[0] == (1,)


def test_an_icnn_may_be_blunt_and_flat():
  for settings in (dict(sharpness=0.5), dict(strength=0.0), dict(strength=0.5)):
    assert shapes_of(icnn.ICNN((1,), **settings), (2,))[0] == ()
  for settings, name in (
    (dict(sharpness=-1.0), "sharpness"),
    (dict(strength=-1e-3), "strength"),
  ):
    net = icnn.ICNN((1,), **settings)
    expect.error(f"^{name}: expected", shapes_of, net, (2,))


def test_an_icnn_starts_as_averages():
  """U ~ U[0, 2 / K] over K units: mean 1 / K, deviation 1 / sqrt(3) of it."""
  start = jax.jit(icnn.ICNN((300, 200)).init)
  params = start(jax.random.key(0), jnp.ones(2))["params"]
  weights = np.asarray(params["convex_1"]["nonnegative"], np.float64)
  assert weights.shape == (300, 200)
  assert 0 <= weights.min() < 1e-5 and 0.9999 < weights.max() * 150 <= 1
  np.testing.assert_allclose(weights.mean() * 300, 1, rtol=0.01)
  np.testing.assert_allclose(weights.std() * 300, 3**-0.5, rtol=0.01)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_labels_of_games(num_classes):
  net = gan.Generator((2,), (4,), num_classes)
  for label in (0, num_classes - 1):
    assert shapes_of(net, (3,), label)[0] == (2,)
  for label in (-1, num_classes, None):
    expect.error(r"^label: expected 0 to", shapes_of, net, (3,), label)


def test_two_features_of_a_time_and_frequencies():
  found = layers.time_embedding(0.3, 2, 1.0)
  np.testing.assert_allclose(found, [np.sin(0.3), np.cos(0.3)], rtol=1e-6)
  found = layers.time_embedding(0.3, 4, 1.5)
  angles = np.array([0.3, 0.45])
  truth = [*np.sin(angles), *np.cos(angles)]
  np.testing.assert_allclose(found, truth, rtol=1e-6)
  embedding = layers.time_embedding
  for dim in (5, 3, 1, 0, -2):
    expect.error(r"^dim: expected", embedding, 0.3, dim)
  for top in (0.99, 0.5, float("inf"), float("nan")):
    expect.error(r"^max_frequency: expected", embedding, 0.3, 4, top)


def test_groups_and_heads_of_one_channel():
  for groups in (1, 5):  # at most one a channel
    net = layers.GroupNorm(groups)
    assert shapes_of(net, (3, 1))[0] == (3, 1)
  for number in (-1, 0, 2):
    net = layers.GroupNorm(number)
    expect.error("^num_groups: expected .*3 channels", shapes_of, net, (4, 3))
  for number in (0, 2):
    net, said = layers.Attention(number), f"^num_heads: expected .*got {number}"
    expect.error(said, shapes_of, net, (4, 3))
  for heads in (1, 3):
    assert shapes_of(layers.Attention(heads, 3), (4, 3))[0] == (4, 3)


def test_cones_need_points_of_one_dimension():
  ranks = [((3,), (3,)), ((3, 2, 1), (3, 2, 1)), ((3, 2), (2,)), ((2,), (3, 2))]
  empty = [((3, 0), (3, 0)), ((0, 2), (3, 2)), ((3, 2), (0, 2))]
  for high, low in (*ranks, *empty, ((3, 2), (3, 4))):
    points = jnp.ones(high), jnp.ones(low)
    said = r"^low: expected points .L, D. of the same"
    expect.error(said, lipschitz.init_cones, *points)
  found = lipschitz.init_cones(jnp.ones((1, 1)), jnp.ones((2, 1)))
  assert (len(found.high), len(found.low)) == (1, 2)


def test_an_output_of_other_sizes_is_refused():
  of = lambda *shape: unbatched.unbatched(lambda params, x, t: jnp.ones(shape))
  given = {"params": {}}, jnp.ones(3), 0.5
  assert of(1, 3)(*given).shape == (3,)
  for number in (0, 2):
    expect.error(r"^apply: expected output", of(number, 3), *given)


def test_normalisations_of_small_inputs_are_held_by_their_epsilons():
  """Variance and epsilon equal: +-1 becomes +-1 / sqrt(2)."""
  signs = jnp.array([[1.0, -1.0, 1.0, -1.0]])
  zeros, half = jnp.zeros(4), signs[0] / math.sqrt(2)
  found = dit.adapt(1e-3 * signs, zeros, zeros)
  np.testing.assert_allclose(found[0], half, rtol=1e-5)
  params = {"params": {"scale": zeros + 1, "bias": zeros}}
  found = layers.GroupNorm(1).apply(params, math.sqrt(1e-5) * signs)
  np.testing.assert_allclose(found[0], half, rtol=1e-5)


@pytest.mark.parametrize(
  "net, shape, time",
  [
    (mlp.MLP((4,)), (2,), (0.5,)),
    (unet.UNet(4, num_groups=2, attention=(4,)), (8, 8, 1), (0.5,)),
    (dit.DiT(8, depth=1, num_heads=1), (8, 8, 1), (0.5,)),
    (gan.Generator((2,), (4,)), (3,), ()),
    (gan.Discriminator((4,)), (2,), ()),
    (icnn.ICNN((4, 4)), (2,), ()),
    (potentials.Potential((4,)), (2,), ()),
    (potentials.Map((4,)), (2,), ()),
    (lipschitz.Network((4,)), (2,), ()),
  ],
  ids=lambda value: type(value).__name__,
)
def test_biases_start_at_zero_and_gains_at_one(net, shape, time):
  params = jax.jit(net.init)(jax.random.key(0), jnp.zeros(shape), *time)
  found = set()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    for name, start in (("bias", 0), ("scale", 1)):
      if path[-1].key.split("_")[0] == name:
        found.add(name)
        assert (leaf == start).all(), jax.tree_util.keystr(path)
  assert "bias" in found
