"""Networks of slope 1 at most.

NumPy's and SciPy's decompositions in float64 are the truth of the kernels; of
the critics it is the definition, |f(x) - f(y)| <= |x - y|.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from jaxgen.models import lipschitz
from tests import expect
from tests.models import slopes

RNG = np.random.default_rng(0)
SIDE = 12
LEFT, RIGHT = np.linalg.qr(RNG.standard_normal((2, SIDE, SIDE)))[0]
with_values = lambda values: LEFT * np.asarray(values) @ RIGHT.T
KERNELS = dict(  # and how far above the norm the bound may lie, relatively
  square=(RNG.standard_normal((9, 9)), 2e-6),
  wide=(RNG.standard_normal((4, 40)), 2e-6),
  tall=(1e-6 * RNG.standard_normal((40, 4)), 2e-6),
  column=(RNG.standard_normal((7, 1)), 2e-6),
  row=(RNG.standard_normal((1, 7)), 2e-6),
  rank_one=(1e5 * np.outer(LEFT[0], np.arange(5)), 2e-6),
  equal=(3 * LEFT @ RIGHT.T, SIDE ** (1 / 1024) - 1 + 2e-6),
  nearly_equal=(with_values(1 - 1e-2 * np.linspace(0, 1, SIDE)), 1e-3),
  one_in_front=(with_values([1, *[0.99] * (SIDE - 1)]), 1e-4),
  many=(np.diag([1, *[0.9999] * 255]), 256 ** (1 / 1024) - 1),
  ill=(with_values(np.geomspace(1, 1e-8, SIDE)), 2e-6),
)
by_kernel = pytest.mark.parametrize("name", KERNELS)
spectral_norm = jax.jit(lipschitz.spectral_norm)
orthogonal = jax.jit(lipschitz.orthogonal)


def singular(kernel):
  return np.linalg.svd(np.asarray(kernel, "float64"), compute_uv=False)


def float32(name):
  return jnp.asarray(KERNELS[name][0], "float32")


@by_kernel
def test_spectral_norm_bounds_the_largest_singular_value(name):
  kernel, above = float32(name), KERNELS[name][1]
  truth = singular(kernel)[0]
  assert (1 - 2e-6) * truth <= spectral_norm(kernel) <= (1 + above) * truth
  top = singular(jax.jit(lipschitz.normalised)(kernel))[0]
  assert 1 - 1.01 * above <= top <= 1 + 2e-6


def test_the_norms_gradient_is_its_singular_vectors():
  """Although the powers are held."""
  kernel = float32("square")
  left, _, right = np.linalg.svd(np.asarray(kernel, "float64"))
  slope = jax.jit(jax.grad(lipschitz.spectral_norm))(kernel)
  np.testing.assert_allclose(slope, np.outer(left[:, 0], right[0]), atol=1e-3)


@pytest.mark.parametrize("shape", [(4, 3), (1, 6)])
def test_the_norm_of_zero_and_its_gradient_are_zero(shape):
  norm = jax.jit(jax.value_and_grad(lipschitz.spectral_norm))
  value, slope = norm(jnp.zeros(shape))
  assert value == 0 and value.dtype == jnp.float32
  np.testing.assert_array_equal(slope, np.zeros(shape, "float32"))


@by_kernel
def test_orthogonal_never_stretches(name):
  assert singular(orthogonal(float32(name))).max() <= 1 + 1e-5


@pytest.mark.parametrize("shape", [(8, 8), (20, 5), (5, 20), (6, 1)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_orthogonal_is_the_polar_factor(shape, scale):
  start = np.linalg.qr(RNG.standard_normal((max(shape), min(shape))))[0]
  start = start if shape[0] >= shape[1] else start.T
  noise = 0.3 * RNG.standard_normal(shape) / np.sqrt(max(shape))
  kernel = (scale * (start + noise)).astype("float32")
  found = orthogonal(jnp.asarray(kernel))
  np.testing.assert_allclose(singular(found), 1, atol=1e-5)
  side = "right" if shape[0] >= shape[1] else "left"
  truth, _ = linalg.polar(kernel.astype("float64"), side)
  np.testing.assert_allclose(found, truth, atol=1e-5)


def test_a_tenth_of_the_largest_arrives():
  values = singular(orthogonal(with_values(np.linspace(1, 0.1, SIDE))))
  np.testing.assert_allclose(values, 1, atol=2e-6)


def test_max_min_sorts_pairs_and_has_slope_one():
  h = RNG.standard_normal((64, 10)).astype("float32")
  found = jax.vmap(lipschitz.max_min)(h)
  first, second = h[:, :5], h[:, 5:]
  truth = np.sort(np.stack([first, second]), axis=0)[::-1]
  np.testing.assert_array_equal(found, np.concatenate(truth, axis=1))
  matrix = jax.jacrev(lipschitz.max_min)(jnp.asarray(h[0]))
  assert set(np.unique(matrix)) == {0.0, 1.0}  # a permutation
  np.testing.assert_array_equal(matrix @ matrix.T, np.eye(10))


@pytest.mark.parametrize("dim", [2, 32])
@pytest.mark.parametrize(
  "constrain, activation",
  [
    (lipschitz.orthogonal, lipschitz.max_min),
    (lipschitz.normalised, nn.relu),
    (lipschitz.normalised, jnp.sin),
  ],
)
def test_network_of_any_parameters_has_slope_one(dim, constrain, activation):
  net = lipschitz.Network((16, 6), constrain, activation)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(dim))
  params = slopes.random_like(shapes, (1e-3, 1.0, 30.0))
  for found in slopes.of(net.apply, params, *slopes.points(dim)):
    assert np.max(found) <= 1 + 1e-4
  assert np.max(found) > 0.1  # they are not all flat


def test_features_of_a_network_have_slope_one():
  """Together: the largest singular value of their Jacobian."""
  net = lipschitz.Network((8,), num_outputs=3)
  start = jax.jit(net.init)(jax.random.key(0), jnp.zeros(5))
  params = slopes.random_like(start, (1.0, 9.0))
  x = slopes.points(5)[0]
  jacobian = jax.vmap(jax.jacrev(net.apply, 1), (None, 0))
  matrices = jax.jit(jax.vmap(jacobian, (0, None)))(params, x)
  assert matrices.shape == (8, 64, 3, 5)
  assert singular(matrices).max() <= 1 + 1e-5


@pytest.mark.parametrize("features", [(), (6, 6), (6, 4)])
def test_orthogonal_layers_keep_the_gradients_length(features):
  """Where none is wider than the one before it."""
  net = lipschitz.Network(features)
  start = jax.jit(net.init)(jax.random.key(1), jnp.zeros(6))
  noise = slopes.random_like(start, (0.05,))
  params = jax.tree.map(lambda p, e: 3 * (p[None] + e), start, noise)
  lengths, rises = slopes.of(net.apply, params, *slopes.points(6))
  np.testing.assert_allclose(lengths, 1, atol=1e-5)
  assert np.max(rises) <= 1 + 1e-5


def network(x):
  """Of known parameters."""
  kernels = jnp.eye(3, 4), jnp.arange(4.0)[:, None]
  biases = jnp.ones(4), jnp.ones(1)
  params = {f"kernel_{i}": kernel for i, kernel in enumerate(kernels)}
  params |= {f"bias_{i}": bias for i, bias in enumerate(biases)}
  return lipschitz.Network((4,)).apply({"params": params}, x)


@pytest.mark.parametrize(
  "function, shape",
  [
    (lipschitz.spectral_norm, (5, 3)),
    (lipschitz.normalised, (3, 5)),
    (lipschitz.orthogonal, (4, 4)),
    (lipschitz.max_min, (6,)),
    (network, (3,)),
  ],
)
def test_jit_and_vmap_are_a_loop_of_one_trace(function, shape):
  x = jnp.asarray(RNG.standard_normal((3, *shape)), "float32")
  loop = expect.a_loop(function, x, rtol=1e-7, atol=2e-6)
  np.testing.assert_allclose(loop[0], function(x[0]), atol=2e-6)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (4, 4, 1)])
def test_network_of_any_shape(shape):
  net = lipschitz.Network((4,))
  out, _ = jax.jit(net.init_with_output)(jax.random.key(0), jnp.ones(shape))
  assert out.shape == () and out.dtype == jnp.float32


def test_max_min_of_an_odd_number_is_refused():
  said, init = "^max_min: expected an even number", lipschitz.Network((5,)).init
  expect.error(said, lipschitz.max_min, jnp.ones(3))
  expect.error(said, init, jax.random.key(0), jnp.ones(2))
