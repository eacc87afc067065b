"""Bijectors: round trips, log-determinants by slogdet, composition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, special

from jaxgen import arrangements, bijectors, elementwise, linear_maps
from tests import conditioners, expect

D = 6
FAMILIES = (elementwise.affine(), elementwise.spline(4, 3.0))
MASK = np.array([True, False, True, True, False, False])


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def coupled(family):
  weights = normal(1, 3, 3 * family.num_params)
  return bijectors.coupling(MASK, lambda x: jnp.tanh(x @ weights), family)


def masked(family):
  conditioner = conditioners.causal(family, normal(2, D, D, family.num_params))
  return bijectors.autoregressive(conditioner, family)


def rotation():
  lu = linear_maps.random_rotation(jax.random.key(3), D)
  return linear_maps.linear(lu._replace(log_scale=lu.log_scale + normal(4, D)))


def exponential(size, scale=1.0):
  left, right = scale * normal(5, 2, D, size) / D**0.5
  return linear_maps.low_rank_exponential(left, right)


def scales():
  return bijectors.multi_scale(
    (D,), *(linear_maps.scale_and_shift(normal(6, 1), 0.5) for _ in range(2))
  )


def histogram():
  log_probs = normal(7, D, 5)
  return bijectors.of_functions(*elementwise.histogram(log_probs))


def layers():
  shifts, log_scales = normal(8, 2, 3, D)
  make = lambda p: bijectors.chain(
    linear_maps.scale_and_shift(*p), arrangements.permuted(np.roll(range(D), 1))
  )
  return bijectors.scanned(make, (log_scales, shifts))


ALL = {
  "affine coupling": lambda: coupled(FAMILIES[0]),
  "spline coupling": lambda: coupled(FAMILIES[1]),
  "affine autoregressive": lambda: masked(FAMILIES[0]),
  "spline autoregressive": lambda: masked(FAMILIES[1]),
  "pointwise spline": lambda: bijectors.pointwise(
    FAMILIES[1], normal(9, D, 11)
  ),
  "linear": rotation,
  "exponential of rank 1": lambda: exponential(1),
  "exponential of rank 3": lambda: exponential(3),
  "multi-scale": scales,
  "histogram": histogram,
  "scanned": layers,
  "inverted": lambda: bijectors.inverted(coupled(FAMILIES[0])),
  "chain": lambda: bijectors.chain(coupled(FAMILIES[1]), rotation()),
}


@pytest.mark.parametrize("name", ALL)
def test_round_trip_and_log_determinant(name):
  with jax.enable_x64(True):
    bijector = ALL[name]()
    x = 0.9 * jax.random.uniform(jax.random.key(0), (5, D), float, -1, 1)

    @jax.jit
    @jax.vmap
    def run(x):
      y, log_det = bijector.forward(x)
      back, other = bijector.inverse(y)
      jacobian = jax.jacfwd(lambda x: bijector.forward(x)[0])(x)
      slope = jax.jacfwd(lambda y: bijector.inverse(y)[0])(y)
      return y, log_det, back, other, jacobian, slope

    y, log_det, back, other, jacobian, slope = run(x)
    assert y.shape == x.shape and log_det.shape == (5,)
    np.testing.assert_allclose(back, x, atol=1e-10)
    np.testing.assert_allclose(other, -log_det, atol=1e-10)
    truth = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(log_det, truth, atol=1e-9)
    np.testing.assert_allclose(
      slope @ jacobian, np.tile(np.eye(D), (5, 1, 1)), atol=1e-8
    )
    assert (
      np.abs(np.asarray(jacobian) - np.eye(D)).max() > 0.1
    )  # not the identity


@pytest.mark.parametrize("name", ALL)
def test_float32_stays_float32(name):
  bijector = ALL[name]()
  x = 0.9 * jax.random.uniform(jax.random.key(0), (D,), minval=-1)
  y, log_det = jax.jit(bijector.forward)(x)
  back, _ = jax.jit(bijector.inverse)(y)
  assert y.dtype == back.dtype == log_det.dtype == jnp.float32
  np.testing.assert_allclose(back, x, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES, ids=["affine", "spline"])
def test_parameters_of_zero_are_the_identity(family):
  x = jnp.linspace(-4, 4, 33)
  params = jnp.zeros((33, family.num_params))
  y, log_slope = family.forward(params, x)
  np.testing.assert_allclose(y, x, atol=1e-6)
  np.testing.assert_allclose(log_slope, 0, atol=1e-6)


@pytest.mark.parametrize("size", [-100.0, 100.0])
@pytest.mark.parametrize("family", FAMILIES, ids=["affine", "spline"])
def test_gradients_are_finite_at_large_parameters(family, size):
  signs = jax.random.rademacher(jax.random.key(0), (9, family.num_params))

  def loss(params, x):
    y, log_slope = family.forward(params, x)
    back, _ = family.inverse(params, x)
    return jnp.sum(y**2 - log_slope + back)

  x = jnp.linspace(-4, 4, 9)
  slopes = jax.jit(jax.grad(loss, (0, 1)))(size * signs, x)
  assert all(np.isfinite(slope).all() for slope in slopes)


def test_the_exponential_is_scipys_also_where_i_plus_uv_is_singular():
  u, v = normal(0, 2, D, 1)
  v = -v / jnp.sum(u * v)  # v . u = -1
  with jax.enable_x64(True):
    for left, right in ((u, v), normal(1, 2, D, 3), jnp.zeros((2, D, 2))):
      left, right = jnp.asarray(left, float), jnp.asarray(right, float)
      bijector = linear_maps.low_rank_exponential(left, right)
      x = normal(2, D)
      y, log_det = bijector.forward(x)
      np.testing.assert_allclose(y, linalg.expm(left @ right.T) @ x, rtol=1e-10)
      np.testing.assert_allclose(log_det, np.sum(left * right), rtol=1e-12)
      np.testing.assert_allclose(bijector.inverse(y)[0], x, rtol=1e-10)


def test_phi1_and_its_gradient_at_zero():
  # phi1(a) = expm1(a) / a; phi1(0) = 1 and phi1'(0) = 1 / 2.
  phi1 = lambda a: linear_maps.phi1(jnp.reshape(a, (1, 1)))[0, 0]
  with jax.enable_x64(True):
    for a in (0.0, 1e-12, 9.9e-5, 1.1e-4, -0.3, 5.0, -40.0):
      truth = special.exprel(a)
      value, slope = jax.value_and_grad(phi1)(a)
      np.testing.assert_allclose(value, truth, rtol=1e-12)
      if abs(a) > 0.1:
        wanted = (np.exp(a) * (a - 1) + 1) / a**2
      else:  # its series
        wanted = sum(
          a**k * (k + 1) / special.factorial(k + 2) for k in range(9)
        )
      np.testing.assert_allclose(slope, wanted, rtol=1e-9)
    zero = jnp.zeros((2, 2))
    np.testing.assert_allclose(linear_maps.phi1(zero), np.eye(2), atol=1e-15)
    slope = jax.jacfwd(linear_maps.phi1)(zero)
    wanted = np.einsum("ik,jl->ijkl", np.eye(2), np.eye(2)) / 2
    np.testing.assert_allclose(slope, wanted, atol=1e-12)


def test_actnorm_normalises_the_batch_that_it_saw():
  batch = 3 * normal(0, 50, 4, 2) + jnp.array([[[1.0, -20.0]]])
  layer = linear_maps.scale_and_shift(*linear_maps.actnorm(batch))
  y = jax.vmap(layer.forward)(batch)[0].reshape(-1, 2)
  np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(y.std(0), 1, rtol=1e-5)
  same = linear_maps.actnorm(jnp.full((3, 2), 4.0))  # constant channels
  np.testing.assert_array_equal(same, [[0, 0], [-4, -4]])
  for value in (0.3, 1000.1):  # whose mean rounds
    log_scale, _ = linear_maps.actnorm(jnp.full((64, 1), value))
    np.testing.assert_array_equal(log_scale, [0])
  expect.error("batch: expected two values", linear_maps.actnorm, batch[:1, 0])


def test_the_linear_map_of_an_image_acts_on_channels():
  lu = linear_maps.random_rotation(jax.random.key(0), 3)
  x = normal(1, 4, 4, 3)
  matrix = jax.jacfwd(lambda c: linear_maps.linear(lu).forward(c)[0])(x[0, 0])
  np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
  y, log_det = linear_maps.linear(lu).forward(x)
  np.testing.assert_allclose(y, x @ matrix.T, atol=1e-5)
  np.testing.assert_allclose(log_det, 0, atol=1e-4)
  scaled = lu._replace(log_scale=lu.log_scale + 0.1)
  log_det = linear_maps.linear(scaled).forward(x)[1]
  np.testing.assert_allclose(log_det, 16 * 0.3, rtol=1e-4)


def test_patches_are_tokens_row_by_row():
  x = np.arange(4 * 6 * 2.0).reshape(4, 6, 2)
  patches = arrangements.patches((4, 6, 2), 2)
  tokens = patches.forward(jnp.asarray(x))[0]
  assert tokens.shape == (6, 8)
  np.testing.assert_array_equal(tokens[4], x[2:, 2:4].ravel())
  np.testing.assert_array_equal(patches.inverse(tokens)[0], x)


def test_multi_scale_keeps_half_of_the_channels_at_each_stage():
  double = linear_maps.scale_and_shift(jnp.log(2.0), 0.0)
  bijector = bijectors.multi_scale((2, 4), double, double, double)
  y, log_det = bijector.forward(jnp.ones((2, 4)))
  np.testing.assert_allclose(y, [2, 2, 2, 2, 4, 4, 8, 8])
  np.testing.assert_allclose(log_det, (8 + 4 + 2) * np.log(2), rtol=1e-6)


def test_the_histogram_is_the_density_of_its_bins():
  log_probs = jnp.log(jnp.array([[0.9, 1e-6, 0.1 - 1e-6]]))
  forward, inverse = elementwise.histogram(log_probs)
  # Levels -1, 0, 1 with bins of width 1 from -1.5 to 1.5.
  x = jnp.array([[-1.4], [-0.7], [0.2], [1.3]])
  y, log_slope = jax.vmap(forward)(x)
  log_p = -(y**2 + np.log(2 * np.pi)) / 2 + log_slope
  wanted = log_probs[0, np.array([0, 0, 1, 2])]
  np.testing.assert_allclose(log_p[:, 0], wanted, atol=1e-4)
  ends = jnp.array([[-1.5], [1.5]])  # of the dequantised data
  assert np.isfinite(jax.vmap(forward)(ends)[0]).all()
  assert np.isnan(forward(jnp.array([1.6]))[0]).all()
  back = jax.vmap(inverse)(y)[0]  # a bin of 1e-6 loses digits in float32
  wide = np.array([0, 1, 3])
  np.testing.assert_allclose(back[wide], x[wide], atol=1e-5)


@pytest.mark.parametrize("turn", [1, -1])
def test_both_tails_of_a_histogram_keep_their_digits(turn):
  """Bins of probabilities down to 5e-11, at either end."""
  logs = jax.nn.log_softmax(-jnp.arange(256) / 12)[::turn]
  forward, inverse = elementwise.histogram(logs[None])
  x = np.linspace(-1, 1, 256, dtype="float32")[:, None]
  y = jax.vmap(forward)(x)[0]
  back = jax.vmap(inverse)(y)[0]
  np.testing.assert_allclose(back, x, atol=1e-3 * 2 / 255)


def test_bad_input_is_one_line():
  affine = FAMILIES[0]
  expect.error(
    "order: expected a permutation", arrangements.permuted, [0, 0, 1]
  )
  expect.error(
    "x: expected 2 rows", arrangements.permuted([1, 0]).forward, jnp.ones(3)
  )
  expect.error("side: expected a divisor", arrangements.patches, (4, 4, 1), 3)
  expect.error("as many numbers", arrangements.reshaped, (4,), (3,))
  expect.error(
    "mask: expected True and False",
    bijectors.coupling,
    MASK | True,
    jnp.sin,
    affine,
  )
  wrong = bijectors.coupling(MASK, lambda x: x, affine)
  expect.error(
    "conditioner: expected 3 x 2 numbers", wrong.forward, jnp.ones(6)
  )
  expect.error("x: expected the mask's shape", wrong.forward, jnp.ones(5))
  wrong = bijectors.autoregressive(lambda x: x, affine)
  expect.error("conditioner: expected shape", wrong.forward, jnp.ones(6))
  expect.error("positive bound", elementwise.affine, 0.0)
  expect.error("num_bins from 2 to 500", elementwise.spline, 1)
  expect.error("positive bound", elementwise.spline, 8, -1.0)
  odd = linear_maps.scale_and_shift(0.0, 0.0)
  expect.error("even channels", bijectors.multi_scale, (3,), odd, odd)
