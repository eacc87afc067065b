"""Splines against NumPy's, by knots; derivatives by differences of these."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import elementwise

LEAST = 1e-3


def knots(params, num_bins, bound):
  """(x, y, slopes) of the num_bins + 1 knots, float64."""

  def ends(logits):
    shares = np.exp(logits - logits.max())
    shares = LEAST + (1 - LEAST * num_bins) * shares / shares.sum()
    return np.concatenate([[-bound], 2 * bound * np.cumsum(shares) - bound])

  shift = np.log(np.expm1(1 - LEAST))
  inner = LEAST + np.log1p(np.exp(params[2 * num_bins :] + shift))
  slopes = np.concatenate([[1.0], inner, [1.0]])
  widths, heights = params[:num_bins], params[num_bins : 2 * num_bins]
  return ends(widths), ends(heights), slopes


def twin(params, x, num_bins, bound):
  """y of one number by Durkan et al. 2019, eq. 4, float64."""
  if abs(x) >= bound:
    return x
  xs, ys, slopes = knots(params, num_bins, bound)
  k = np.searchsorted(xs, x, "right") - 1
  width, height = xs[k + 1] - xs[k], ys[k + 1] - ys[k]
  t, s = (x - xs[k]) / width, height / width
  over = height * (s * t**2 + slopes[k] * t * (1 - t))
  under = s + (slopes[k] + slopes[k + 1] - 2 * s) * t * (1 - t)
  return ys[k] + over / under


@pytest.mark.parametrize("num_bins, bound", [(2, 1.0), (8, 5.0), (11, 0.5)])
def test_splines_and_their_derivatives_are_numpys(num_bins, bound):
  family = elementwise.spline(num_bins, bound)
  size = 3 * num_bins - 1
  params = 2 * jax.random.normal(jax.random.key(0), (13, size))
  x = bound * jnp.linspace(-1.2, 1.2, 13)
  reference = functools.partial(twin, num_bins=num_bins, bound=bound)
  exact, places = np.float64(params), np.float64(x)

  def values(params, x):
    return np.array([reference(*row) for row in zip(params, x, strict=True)])

  truth = values(exact, places)
  run = jax.jit(family.forward)
  y, log_slope = run(params, x)
  assert y.dtype == log_slope.dtype == jnp.float32
  np.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-5 * bound)

  back, other = jax.jit(family.inverse)(params, jnp.float32(truth))
  assert back.dtype == other.dtype == jnp.float32
  error = (back - x) * np.exp(log_slope)  # y has as many digits
  np.testing.assert_allclose(error, 0, atol=3e-6 * bound)

  # By central differences; points at +-bound have slopes 1 on both sides.
  step = 1e-6
  rise = values(exact, places + step) - values(exact, places - step)
  slopes = np.log(rise / (2 * step))
  np.testing.assert_allclose(log_slope, slopes, rtol=1e-3, atol=2e-4)
  grads = jax.jit(jax.grad(lambda p: family.forward(p, x)[0].sum()))(params)
  for i in range(size):
    move = step * np.eye(size)[i]
    rise = values(exact + move, places) - values(exact - move, places)
    found = rise / (2 * step)
    np.testing.assert_allclose(grads[:, i], found, rtol=2e-3, atol=1e-4 * bound)


def test_the_slope_is_continuous_at_knots():
  """Both bins of a knot have its slope, and beyond the interval it is 1."""
  family = elementwise.spline(4, 3.0)
  params = jax.random.normal(jax.random.key(1), (11,))
  xs, ys, slopes = knots(np.float64(params), 4, 3.0)
  for side in (-1e-5, 1e-5):
    x = jnp.float32(xs + side)
    y, log_slope = family.forward(jnp.broadcast_to(params, (5, 11)), x)
    np.testing.assert_allclose(y, ys, atol=1e-4)
    np.testing.assert_allclose(log_slope, np.log(slopes), atol=1e-3)


def test_values_at_knots_stay_finite():
  """Rounding may put a knot on either side of the bin that is found."""
  family = elementwise.spline(8, 5.0)
  params = 4 * jax.random.normal(jax.random.key(2), (500, 23))
  all_knots = [knots(np.float64(row), 8, 5.0) for row in params]
  for name, which in (("forward", 0), ("inverse", 1)):
    run = getattr(family, name)
    exact = np.float32([each[which] for each in all_knots])  # [500, 9]
    total = lambda p, v, run=run: sum(part.sum() for part in run(p, v))
    many = jax.jit(jax.vmap(jax.value_and_grad(total, (0, 1)), (None, 0)))
    for value in (
      exact,
      np.nextafter(exact, np.float32(-9)),
      np.nextafter(exact, np.float32(9)),
    ):
      found = many(params, jnp.asarray(value.T))
      assert all(np.isfinite(a).all() for a in jax.tree.leaves(found)), name


def test_double_precision_and_values_of_a_lower_one():
  family = elementwise.spline(8, 5.0)
  with jax.enable_x64(True):
    params = jax.random.normal(jax.random.key(3), (33, 23), jnp.float64)
    x = jnp.linspace(-5.5, 5.5, 33)
    y, log_slope = family.forward(params, x)
    assert y.dtype == log_slope.dtype == jnp.float64
    back, other = family.inverse(params, y)
    np.testing.assert_allclose(back, x, atol=1e-11)
    np.testing.assert_allclose(other, -log_slope, atol=1e-10)
    rows = zip(np.asarray(params), np.asarray(x), strict=True)
    truth = [twin(*row, 8, 5.0) for row in rows]
    np.testing.assert_allclose(y, truth, atol=1e-12)
    half = x.astype(jnp.bfloat16)
    found, _ = family.forward(jnp.float32(params), half)
    same, _ = family.forward(jnp.float32(params), jnp.float32(half))
    np.testing.assert_allclose(jnp.float32(found), same, rtol=1e-6)


def test_wide_and_narrow_bins_keep_their_digits():
  """Logits of +-50: bins of the least and of the whole width."""
  family = elementwise.spline(4, 3.0)
  logits = jnp.array([50.0, -50, 0, -50, -50, 50, -50, 0, 20, -20, 0])
  x = jnp.linspace(-2.999, 2.999, 301)
  params = jnp.broadcast_to(logits, (301, 11))
  y, log_slope = family.forward(params, x)
  assert np.all(np.diff(y) > -1e-6)
  assert np.isfinite(y).all() and np.isfinite(log_slope).all()
  truth = [twin(np.float64(logits), v, 4, 3.0) for v in np.float64(x)]
  np.testing.assert_allclose(y, truth, atol=2e-3)
