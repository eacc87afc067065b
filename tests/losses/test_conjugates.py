"""Convex conjugates by Newton's method beside SciPy's minimiser.

phi*(y) = max_x <x, y> - phi(x),   attained where grad phi(x) = y
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxgen.data import transport_pairs as pairs
from jaxgen.losses import transport_maps
from tests import expect

DIM = 3
RNG = np.random.default_rng(0)
ROOT = RNG.standard_normal((DIM, DIM))
MATRIX = ROOT @ ROOT.T / DIM + 0.3 * np.eye(DIM)
SOURCE = RNG.standard_normal((9, DIM))
TARGET = RNG.standard_normal((5, DIM)) + 0.5
curved = pairs.log_sum_exp(jax.random.key(3), DIM)
transport = jax.jit(curved.transport)


def quadratic(matrix, shift):
  return lambda x: x @ matrix @ x / 2 + x @ shift


def points(potential_fn, num_steps):
  """Conjugate points of many (y, start), compiled once a potential."""
  one = functools.partial(
    transport_maps.conjugate_point, potential_fn, num_steps=num_steps
  )
  return jax.jit(jax.vmap(one))


def test_newton_is_exact_in_one_step_on_a_quadratic():
  with jax.enable_x64(True):
    matrix, shift = jnp.asarray(MATRIX), jnp.asarray(SOURCE[0])
    one, three = (points(quadratic(matrix, shift), n) for n in (1, 3))
    y, start = jnp.asarray(TARGET), jnp.asarray(30 * SOURCE[:5])
    truth = np.linalg.solve(MATRIX, (TARGET - SOURCE[0]).T).T
    np.testing.assert_allclose(one(y, start), truth, atol=1e-10)
    np.testing.assert_allclose(three(y, start), truth, atol=1e-10)


def test_float32_on_a_quadratic():
  found = points(quadratic(jnp.float32(MATRIX), jnp.ones(DIM)), 2)
  x = found(jnp.float32(TARGET), jnp.zeros((5, DIM)))
  assert x.dtype == jnp.float32
  truth = np.linalg.solve(MATRIX, (TARGET - 1).T).T
  np.testing.assert_allclose(x, truth, atol=1e-4)


@pytest.mark.parametrize("dtype, atol", [("float32", 1e-3), ("float64", 1e-9)])
def test_it_is_the_way_back_of_a_convex_map(dtype, atol):
  """grad phi(x*) = y, and x* is the x that y was made of, from anywhere.

  Steps are chosen by phi's value, whose rounding the gradient there feels as
  its square root.
  """
  with jax.enable_x64(dtype == "float64"):
    x = jnp.asarray(RNG.standard_normal((64, DIM)), dtype)
    forth = jax.jit(jax.vmap(jax.grad(curved.potential)))
    y = forth(x)
    back = points(curved.potential, 25)(y, jnp.zeros_like(x))
    np.testing.assert_allclose(forth(back), y, atol=atol)
    np.testing.assert_allclose(back, x, atol=3 * atol)


def test_from_a_near_start_a_few_steps_are_enough():
  with jax.enable_x64(True):
    x, off = jnp.asarray(RNG.standard_normal((2, 64, DIM)))
    forth = jax.jit(jax.vmap(jax.grad(curved.potential)))
    back = points(curved.potential, 4)(forth(x), x + 0.1 * off)
    np.testing.assert_allclose(forth(back), forth(x), atol=1e-4)


def double_well(x):
  """Not convex between its wells at +-1."""
  return jnp.sum((x**2 - 1) ** 2) / 4 + 0.05 * jnp.sum(x**2)


def test_without_convexity_it_goes_downhill():
  """Never up at any step; nearly all to a minimum, where the gradient is y."""
  with jax.enable_x64(True):
    y, start = 0.3 * jnp.asarray(RNG.standard_normal((2, 200, DIM)))
    hessian = jax.jit(jax.vmap(jax.hessian(double_well)))
    lowest = lambda x: np.linalg.eigvalsh(hessian(x)).min(1)
    assert (lowest(start) < 0).mean() > 0.9
    gap = jax.jit(jax.vmap(lambda x, y: double_well(x) - x @ y))
    step, x = points(double_well, 1), start
    before = first = gap(x, y)
    for _ in range(25):
      x = step(y, x)
      after = gap(x, y)
      assert np.all(after <= before + 1e-12)
      before = after
    assert np.all(after < first)
    slope = jax.jit(jax.vmap(jax.grad(double_well)))(x) - y
    there = np.abs(slope).max(1) < 1e-8
    assert there.mean() > 0.95 and np.all(lowest(x[there]) > 0)
    many = points(double_well, 25)(y, start)
    np.testing.assert_allclose(many, x, atol=1e-9)


def test_where_a_step_is_not_finite_a_shorter_one_is_taken():
  """Of phi = -log(1 - x^2) a whole Newton step leaves the domain: log gives
  NaN there, which no comparison may prefer.
  """
  barrier = lambda x: -jnp.log(1 - jnp.sum(x**2))
  with jax.enable_x64(True):
    y = jnp.array([[9.0], [-40.0], [0.0]])
    start = jnp.array([[0.05], [0.3], [-0.9]])
    found = np.asarray(points(barrier, 40)(y, start))[:, 0]
    value = np.asarray(y)[:, 0]  # 2 x / (1 - x^2) = y
    root = np.sqrt(1 + value**2) - 1
    truth = np.where(value == 0, 0, root / np.where(value == 0, 1, value))
    np.testing.assert_allclose(found, truth, atol=1e-8)


def parametric(params, x):
  """Convex where scale > 0: log-sum-exp of planes and a quadratic."""
  planes = jax.nn.logsumexp(params["slopes"] @ x + params["heights"])
  return planes + params["scale"] * jnp.sum(x**2) / 2


def parameters():
  return {
    "slopes": jnp.asarray(RNG.standard_normal((4, DIM))),
    "heights": jnp.asarray(RNG.standard_normal(4)),
    "scale": jnp.asarray(0.6),
  }


@jax.jit
def gradient(params, source, target):
  potential_fn = lambda params: functools.partial(parametric, params)
  loss = lambda params: transport_maps.semi_dual(
    potential_fn(params), source, target, num_steps=30
  )
  return jax.value_and_grad(loss)(params)


both = jax.jit(jax.value_and_grad(parametric, 1))


def true_value(params):
  """mean phi + mean phi*, every conjugate by SciPy; and the points."""

  def conjugate(y):
    gap = lambda x: both(params, x)[0] - x @ y
    slope = lambda x: np.asarray(both(params, x)[1]) - y
    found = optimize.minimize(gap, np.zeros(DIM), jac=slope, tol=1e-12)
    return -found.fun, found.x

  values, found = zip(*map(conjugate, TARGET), strict=True)
  own = np.mean([both(params, x)[0] for x in SOURCE])
  return own + np.mean(values), np.array(found)


def test_the_semi_duals_gradient_is_that_of_the_true_semi_dual():
  """By finite differences along single parameters and a random direction."""
  with jax.enable_x64(True):
    params = parameters()
    value, grads = gradient(params, jnp.asarray(SOURCE), jnp.asarray(TARGET))
    tree, size = jax.tree.structure(params), 1e-4
    rng = np.random.default_rng(1)
    for _ in range(4):
      way = [rng.standard_normal(p.shape) for p in jax.tree.leaves(params)]
      way = jax.tree.unflatten(tree, way)
      moved = lambda size: jax.tree.map(lambda p, w: p + size * w, params, way)
      up, down = (true_value(moved(s))[0] for s in (size, -size))
      along = jax.tree.map(lambda g, w: np.sum(g * w), grads, way)
      slope = sum(jax.tree.leaves(along))
      np.testing.assert_allclose(slope, (up - down) / (2 * size), rtol=1e-5)
    # The value is of the two means: what is held is SciPy's.
    _, back = true_value(params)
    one = jax.jit(jax.vmap(functools.partial(parametric, params)))
    difference = one(SOURCE).mean() - one(jnp.asarray(back)).mean()
    np.testing.assert_allclose(value, difference, rtol=1e-6)


def test_it_rests_where_the_clouds_are_matched():
  """y = grad phi(x): each x* is its x, so the means are of the same points."""
  with jax.enable_x64(True):
    params, source = parameters(), jnp.asarray(SOURCE)
    forth = jax.jit(jax.vmap(jax.grad(parametric, 1), (None, 0)))
    target = forth(params, source)
    value, grads = gradient(params, source, target[::-1])
    for leaf in (value, *jax.tree.leaves(grads)):
      np.testing.assert_allclose(leaf, 0, atol=1e-9)
    off = params | {"scale": params["scale"] + 0.1}
    assert abs(gradient(off, source, target)[1]["scale"]) > 1e-3


def test_descent_finds_the_map_between_gaussians():
  """Of matched clouds a quadratic's best matrix is the map's, exactly."""

  def loss(root, source, target):
    phi = quadratic(root @ root.T, jnp.zeros(DIM))
    return transport_maps.semi_dual(phi, source, target, num_steps=1)

  with jax.enable_x64(True):
    source = jnp.asarray(SOURCE)
    target = source @ jnp.asarray(MATRIX)
    descend = lambda root, _: (
      root - 0.2 * jax.grad(loss)(root, source, target),
      None,
    )
    start = jnp.eye(DIM, dtype=source.dtype)
    run = lambda start: jax.lax.scan(descend, start, length=800)[0]
    root = jax.jit(run)(start)
    np.testing.assert_allclose(root @ root.T, MATRIX, atol=1e-5)


def test_nothing_flows_through_the_conjugate_points():
  """Danskin: the target's and the starts' own gradients are held."""
  loss = lambda target, source: transport_maps.semi_dual(
    curved.potential, source, target, num_steps=2
  )
  source, target = jnp.float32(SOURCE), jnp.float32(TARGET)
  by_target, by_source = jax.jit(jax.grad(loss, (0, 1)))(target, source)
  assert not np.any(by_target)
  own = jax.jit(jax.vmap(jax.grad(curved.potential)))(source) / len(source)
  np.testing.assert_allclose(by_source, own, rtol=1e-5, atol=1e-7)


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_values_of_a_batch(self):
    clouds = jnp.float32(SOURCE).reshape(3, 3, DIM)
    others = jnp.float32(TARGET[:4]).reshape(2, 2, DIM)
    semi = lambda x, y: transport_maps.semi_dual(
      curved.potential, x, y, num_steps=8
    )
    many = self.variant(jax.vmap(semi))
    found = many(clouds[:2], others)
    assert found.shape == (2,) and found.dtype == jnp.float32
    for value, x, y in zip(found, clouds, others, strict=False):
      find = lambda y: (
        optimize.root(
          lambda x: np.asarray(transport(jnp.float32(x))) - y,
          np.zeros(3),
        ).x
      )
      back = jnp.float32([find(np.asarray(one)) for one in y])
      phi = jax.jit(jax.vmap(curved.potential))
      truth = phi(x).mean() - phi(back).mean()
      np.testing.assert_allclose(value, truth, rtol=1e-3, atol=1e-3)


def test_one_trace_and_vmap_is_a_loop():
  solve = functools.partial(
    transport_maps.conjugate_point, double_well, num_steps=2
  )
  from_zero = lambda y: solve(y, 0 * y)
  expect.a_loop(from_zero, jnp.float32(TARGET), rtol=1e-4, atol=1e-5)


def test_bad_input():
  x = jnp.ones(DIM)

  def refuses(said, function, *args, num_steps=1):
    expect.error(f"^{said}", function, *args, num_steps=num_steps)

  point, dual = transport_maps.conjugate_point, transport_maps.semi_dual
  for function, one in ((point, x), (dual, x[None])):
    refuses("potential: expected a scalar", function, jnp.sin, one, one)
    for number in (0, -1):
      said, args = "num_steps: expected at least 1", (double_well, one, one)
      refuses(said, function, *args, num_steps=number)
  refuses("y, start: expected points of the same", point, double_well, x, x[:1])
  shapes = [((2, 3), (2, 2)), ((0, 3), (2, 3)), ((2, 3), (0, 3))]
  for shape in (*shapes, ((2, 3, 3), (2, 3, 3))):
    clouds = map(jnp.ones, shape)
    refuses("source, target: expected points of", dual, double_well, *clouds)
