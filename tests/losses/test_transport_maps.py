"""Games of maps and potentials at known saddles: Gaussians in closed form.

For x ~ N(m, C) the map T x = n + A (x - m), A symmetric, is the optimal one to
N(n, A C A). Every loss is a polynomial of degree two in x, of which cubature
takes the expectation exactly.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxgen import costs
from jaxgen.losses import transport_maps, wasserstein
from jaxgen.metrics import frechet
from tests import expect
from tests.losses.test_score_matching import cubature
from tests.metrics.test_frechet import by_scipy

DIM = 3
RNG = np.random.default_rng(0)
ROOT = RNG.standard_normal((DIM, DIM))
FIRST = ROOT @ ROOT.T / DIM + 0.5 * np.eye(DIM)
MEAN, SHIFTED = RNG.standard_normal((2, DIM))
FACTOR = RNG.standard_normal((DIM, DIM))
MATRIX = FACTOR @ FACTOR.T / DIM + 0.4 * np.eye(DIM)
SECOND = MATRIX @ FIRST @ MATRIX
INVERSE = np.linalg.inv(MATRIX)
half = lambda x, y: costs.square(x, y) / 2


def quadratic(matrix, source, target):
  """x -> <x - m, M (x - m)> / 2 + <x, n>, whose gradient maps m to n."""
  return lambda x: (x - source) @ matrix @ (x - source) / 2 + x @ target


def play(params, cost, potential):
  """The mean losses of map and potential, and the mean of f on the target."""
  matrix, shift = params["map"]
  f = potential(*params["potential"])
  to = lambda x: shift + matrix @ (x - jnp.asarray(MEAN))
  x, y = cubature(MEAN, FIRST), cubature(SHIFTED, SECOND)
  mover = jax.vmap(lambda x: transport_maps.mover(f, to, x, cost=cost))
  dual = jax.vmap(lambda x, y: wasserstein.dual(f, y, to(x)))
  return mover(x).mean(), dual(x, y).mean(), jax.vmap(f)(y).mean()


def convex(matrix, target):
  return quadratic(matrix, jnp.asarray(SHIFTED), target)


GAMES = dict(  # cost, f of the potential's parameters
  square=(half, lambda m, n: lambda y: y @ y / 2 - convex(m, n)(y)),
  inner=(costs.inner, lambda m, n: lambda y: -convex(m, n)(y)),  # Makkuva's
)


def truth(name):
  """Half of W2^2, by SciPy; for the inner product less both mean squares."""
  laws = frechet.Gaussian(MEAN, FIRST), frechet.Gaussian(SHIFTED, SECOND)
  squares = sum(np.trace(law.covariance) + law.mean @ law.mean for law in laws)
  return (by_scipy(*laws) - (squares if name == "inner" else 0)) / 2


@pytest.mark.parametrize("name", GAMES)
def test_the_game_rests_at_the_optimal_map_and_potential(name):
  """There its value is the transport cost, and no player alone wins more."""
  cost, potential = GAMES[name]

  @jax.jit
  def run(params):
    losses = lambda params: play(params, cost, potential)
    return losses(params), jax.jacrev(losses)(params)

  with jax.enable_x64(True):
    best = {  # A, n of the map; grad phi_c(y) = T^-1 y, f = |y|^2 / 2 - phi_c
      "map": (jnp.asarray(MATRIX), jnp.asarray(SHIFTED)),
      "potential": (jnp.asarray(INVERSE), jnp.asarray(MEAN)),
    }
    (mover, dual, of_target), (by_mover, by_dual, _) = run(best)
    np.testing.assert_allclose(mover + of_target, truth(name), rtol=1e-10)
    np.testing.assert_allclose(dual, 0, atol=1e-10)
    for slope in (*by_mover["map"], *by_dual["potential"]):
      np.testing.assert_allclose(slope, 0, atol=1e-10)
    add = lambda a, b: tuple(one + two for one, two in zip(a, b, strict=True))
    for size in (1e-3, 0.1):
      off = [size * RNG.standard_normal(shape) for shape in ((DIM, DIM), DIM)]
      assert run(best | {"map": add(best["map"], off)})[0][0] > mover
      # Another potential, and the best answer to it: T = (grad)^-1.
      matrix, target = add(best["potential"], (off[0] @ off[0].T, off[1]))
      answer = jnp.linalg.inv(matrix)
      at_mean = jnp.asarray(SHIFTED) + answer @ (jnp.asarray(MEAN) - target)
      other = {"map": (answer, at_mean), "potential": (matrix, target)}
      (mover_of, _, of_target_of), (by_mover, by_dual, _) = run(other)
      for slope in by_mover["map"]:
        np.testing.assert_allclose(slope, 0, atol=1e-10)
      assert mover_of + of_target_of < truth(name) - 1e-9
      assert max(abs(s).max() for s in by_dual["potential"]) > size**2 / 100


def test_non_minimax_rests_at_the_conjugate_potentials():
  weight = 2.5

  def losses(params):
    """(W2GN's, its cycle's part) of the two potentials' parameters."""
    phi = quadratic(params[0], jnp.asarray(MEAN), params[1])
    psi = quadratic(params[2], jnp.asarray(SHIFTED), params[3])
    maps = jax.grad(phi), jax.grad(psi)
    one = lambda x, y: (
      transport_maps.non_minimax(phi, psi, x, y, cycle_weight=weight),
      weight * transport_maps.cycle(*maps, y),
    )
    found = jax.vmap(one)(cubature(MEAN, FIRST), cubature(SHIFTED, SECOND))
    return jax.tree.map(jnp.mean, found)

  run = jax.jit(lambda params: (losses(params), jax.jacrev(losses)(params)))
  with jax.enable_x64(True):
    best = [jnp.asarray(a) for a in (MATRIX, SHIFTED, INVERSE, MEAN)]
    for found in jax.tree.leaves(run(best)):
      np.testing.assert_allclose(found, 0, atol=1e-10)
    # Off it psi learns from the cycle alone; d/dn of phi also is x - S(y),
    # and the mean of S(y) = m' + P' (y - n), y of mean n, is m'.
    off = [p + 0.1 * RNG.standard_normal(p.shape) for p in best]
    _, (slopes, of_cycle) = run(off)
    np.testing.assert_allclose(slopes[2], of_cycle[2], rtol=1e-10)
    np.testing.assert_allclose(slopes[3], of_cycle[3], rtol=1e-10)
    assert abs(np.asarray(of_cycle[2])).max() > 0.1
    also = np.asarray(slopes[1]) - np.asarray(of_cycle[1])
    np.testing.assert_allclose(also, MEAN - np.asarray(off[3]), 1e-9)


def test_the_best_move_is_the_c_transform():
  """On a line: T = sinh is the gradient of cosh, |x - y| is indifferent."""
  with jax.enable_x64(True):
    x = jnp.linspace(-2, 2, 9)
    f = lambda y: jnp.sqrt(1 + y**2) - y * jnp.arcsinh(y)  # -cosh's conjugate
    move = lambda x, off: transport_maps.mover(
      f, lambda x: jnp.sinh(x) + off, x, cost=costs.inner
    )
    value, slope = jax.vmap(jax.value_and_grad(move, 1), (0, None))(x, 0.0)
    np.testing.assert_allclose(value, -np.cosh(x), rtol=1e-12)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    # f(y) = y is 1-Lipschitz: all moves to the right cost what they gain.
    along = lambda x, off: transport_maps.mover(
      lambda y: y, lambda x: x + off, x, cost=costs.distance
    )
    for off in (0.0, 0.3, 7.0):
      found = jax.vmap(along, (0, None))(x, off)
      np.testing.assert_allclose(found, -x, atol=1e-12)
    found = jax.vmap(along, (0, None))(x, -0.3)
    np.testing.assert_allclose(found, 0.6 - x, atol=1e-12)


def test_barycentric_regression_finds_the_conditional_mean():
  """Over independent pairs of two clouds, of any plan between them."""
  with jax.enable_x64(True):
    x, y = jnp.arange(4.0)[:, None], jnp.asarray(RNG.standard_normal((6, 1)))
    plan = RNG.dirichlet(np.ones(24)).reshape(4, 6)
    product = np.outer(plan.sum(1), plan.sum(0))
    densities = jnp.asarray(plan / product)
    one = lambda table, x, y, density: transport_maps.barycentric(
      lambda x: table[x.astype(int)], x, y, density
    )
    of_y = jax.vmap(one, (None, None, 0, 0))
    of_both = jax.vmap(of_y, (None, 0, None, 0))
    mean = lambda table: jnp.sum(product * of_both(table, x, y, densities))
    means, run = plan @ y[:, 0] / plan.sum(1), jax.jit(jax.value_and_grad(mean))
    value, slope = run(means)
    np.testing.assert_allclose(slope, 0, atol=1e-14)
    spread = ((plan @ y[:, 0] ** 2) - plan.sum(1) * means**2).sum()
    np.testing.assert_allclose(value, spread, rtol=1e-12)
    assert jax.grad(one, 3)(means, x[0], y[0], jnp.float64(2)) == 0  # held


def curved(x):
  return x * jnp.sum(x**2) + 0.3


def back(y):
  return jnp.sin(y) - 1


def potential(x):
  return jnp.sum(x**3)


def drawn(x, z):
  return curved(x) + z * x


def losses(x, y, noise):
  weak = lambda diversity: transport_maps.weak_mover(
    potential, drawn, x, noise, cost=half, diversity=diversity
  )
  return dict(
    mover=transport_maps.mover(potential, curved, x, cost=half),
    weak=weak(0.7),
    strong=weak(0.0),
    cycle=transport_maps.cycle(curved, back, y),
    barycentric=transport_maps.barycentric(curved, x, y, jnp.float32(1.7)),
    non_minimax=transport_maps.non_minimax(
      potential, lambda y: jnp.sum(jnp.cos(y)), x, y, cycle_weight=0.2
    ),
  )


def by_hand(x, y, noise):
  x, y = (np.float64(a).ravel() for a in (x, y))
  curved = lambda x: x * (x**2).sum() + 0.3
  paid = lambda to: ((x - to) ** 2).sum() / 2 - (to**3).sum()
  drawn = np.stack([curved(x) + z * x for z in np.float64(noise)])
  strong = np.mean([paid(to) for to in drawn])
  gap = ((3 * np.sin(y) ** 2 - y) ** 2).sum()  # T = 3 x^2, S = -sin
  return dict(
    mover=paid(curved(x)),
    weak=strong - 0.7 * drawn.var(0, ddof=1).sum(),
    strong=strong,
    cycle=((curved(np.sin(y) - 1) - y) ** 2).sum(),
    barycentric=1.7 * ((curved(x) - y) ** 2).sum(),
    non_minimax=(x**3).sum() + (np.sin(y) ** 3).sum() + 0.2 * gap,
  )


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((), (3,), (2, 2, 1))
  def test_values_of_a_batch(self, *shape):
    rng = np.random.default_rng(2)
    x, y = np.float32(0.6 * rng.standard_normal((2, 3, *shape)))
    noise = rng.standard_normal((3, 4), "float32")
    batch = self.variant(jax.vmap(losses))
    found = batch(*map(jnp.asarray, (x, y, noise)))
    for i in range(3):
      for name, value in by_hand(x[i], y[i], noise[i]).items():
        assert found[name].shape == (3,) and found[name].dtype == jnp.float32
        np.testing.assert_allclose(found[name][i], value, 2e-5, err_msg=name)


def test_bad_input():
  x, noise, one = jnp.ones(3), jnp.ones((2, 3)), jnp.float32(1)
  weak = lambda f, to, noise, diversity=0.5: transport_maps.weak_mover(
    f, to, x, noise, cost=half, diversity=diversity
  )
  both = transport_maps.non_minimax
  two = lambda x, y, weight=1.0: both(
    potential, potential, x, y, cycle_weight=weight
  )
  short = lambda x, *z: x[:2]
  for call in (
    lambda: transport_maps.mover(potential, short, x, cost=half),
    lambda: transport_maps.cycle(curved, short, x),
    lambda: transport_maps.cycle(short, curved, x),
    lambda: transport_maps.barycentric(short, x, x, one),
    lambda: transport_maps.barycentric(curved, x, x[:1], one),
    lambda: two(x, x[:1]),
  ):
    expect.error(r": expected shape \[3\], that of x", call)
  for call in (
    lambda: transport_maps.mover(jnp.sin, curved, x, cost=half),
    lambda: weak(jnp.sin, drawn, noise),
    lambda: both(jnp.sin, potential, x, x, cycle_weight=1.0),
    lambda: both(potential, jnp.sin, x, x, cycle_weight=1.0),
  ):
    expect.error("potential: expected a scalar", call)
  said = "noise: expected at least 2 samples"
  expect.error(said, weak, potential, drawn, noise[:1])
  for bad in (-0.1, float("nan")):
    args = weak, potential, drawn, noise, bad
    expect.error("diversity: expected at least 0", *args)
    expect.error("cycle_weight: expected a positive number", two, x, x, bad)
