"""Games at their optimal discriminators are the divergences of the table.

Laws on a grid in float64: sums of discrete laws, for which every row holds
exactly, beside SciPy's integrals and closed forms of the densities.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from jaxgen.losses import adversarial
from tests import expect

GRID = np.linspace(-9, 9, 301)
# Weights, means and standard deviations; Pearson's needs q's tails the wider.
LAWS = dict(
  gaussians=(((1.0,), (0.3,), (0.8,)), ((1.0,), (-0.4,), (1.1,))),
  mixtures=(
    ((0.3, 0.7), (1.0, -0.8), (0.4, 0.6)),
    ((0.6, 0.4), (-0.5, 0.7), (0.9, 1.0)),
  ),
)
DIVERGENCES = dict(
  kullback_leibler=lambda p, q: special.rel_entr(p, q),
  reverse_kullback_leibler=lambda p, q: special.rel_entr(q, p),
  pearson=lambda p, q: (p - q) ** 2 / q,
  squared_hellinger=lambda p, q: (np.sqrt(p) - np.sqrt(q)) ** 2,
  jensen_shannon=lambda p, q: twice_jensen_shannon(p, q),
  gan=lambda p, q: twice_jensen_shannon(p, q) - np.log(2) * (p + q),
  total_variation=lambda p, q: abs(p - q) / 2,
)
SMOOTH = [name for name in DIVERGENCES if name != "total_variation"]
GAMES = "original non_saturating least_squares hinge relativistic".split()
by_laws = pytest.mark.parametrize("laws", LAWS)


def twice_jensen_shannon(p, q):
  middle = (p + q) / 2
  return special.rel_entr(p, middle) + special.rel_entr(q, middle)


def density(law, x):
  return sum(w * stats.norm.pdf(x, m, s) for w, m, s in zip(*law, strict=True))


def weights(laws):
  """Both laws on the grid, as weights that sum to one."""
  found = [density(law, GRID) for law in LAWS[laws]]
  return [p / p.sum() for p in found]


def expected(loss, scores, p, q):
  """E loss(D(x), D(y)) of independent x ~ P and y ~ Q."""
  pairs = jax.vmap(jax.vmap(loss, (None, 0)), (0, None))
  with jax.enable_x64(True):
    table = np.asarray(jax.jit(pairs)(jnp.array(scores), jnp.array(scores)))
  return p @ table @ q


def raised(loss, best, p, q):
  """Whether every discriminator off the best one has a larger loss."""
  rng, at_best = np.random.default_rng(0), expected(loss, best, p, q)
  return [
    expected(loss, best + size * rng.standard_normal(best.shape), p, q)
    > at_best + 1e-9
    for size in (0.01, 0.1, 1.0)
  ]


@by_laws
@pytest.mark.parametrize("name", DIVERGENCES)
def test_f_gan_at_its_optimum_is_minus_the_divergence(name, laws):
  divergence, (p, q) = getattr(adversarial, name)(), weights(laws)
  game, truth = adversarial.f_gan(divergence), DIVERGENCES[name](p, q).sum()
  with jax.enable_x64(True):
    scores = np.asarray(divergence.optimal(jnp.array(p / q)))
    np.testing.assert_allclose(q @ divergence.f(jnp.array(p / q)), truth, 1e-10)
  found = expected(game.discriminator, scores, p, q)
  np.testing.assert_allclose(found, -truth, rtol=1e-10)
  # Of the densities themselves: the trapezoid rule has converged.
  first, second = LAWS[laws]
  if name in SMOOTH:
    at = lambda x: DIVERGENCES[name](density(first, x), density(second, x))
    whole = integrate.quad(at, -9, 9, epsabs=1e-12, limit=200)[0]
    np.testing.assert_allclose(found, -whole, 1e-8)
    assert all(raised(game.discriminator, scores, p, q))
  if (name, laws) == ("kullback_leibler", "gaussians"):
    (_, (m,), (s,)), (_, (n,), (r,)) = first, second
    closed = np.log(r / s) + (s**2 + (m - n) ** 2) / (2 * r**2) - 1 / 2
    np.testing.assert_allclose(found, -closed, rtol=1e-9)
  # The generator's is E -f*(g(D(y))), up to what the data alone say.
  both = lambda r, f: game.discriminator(r, f) + game.generator(r, f)
  activation = lambda r, f: -divergence.activation(r) + 0 * f
  most = np.clip(scores, -30, 30)
  sums = (expected(loss, most, p, q) for loss in (both, activation))
  np.testing.assert_allclose(*sums, rtol=1e-9)


EMPTY = dict(  # f and its slope at 0, by hand
  kullback_leibler=(0.0, -np.inf),
  reverse_kullback_leibler=(np.inf, -np.inf),
  pearson=(1.0, -2.0),
  squared_hellinger=(1.0, -np.inf),
  jensen_shannon=(np.log(2), -np.inf),
  gan=(0.0, -np.inf),
  total_variation=(0.5, -0.5),
)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_of_a_law_with_empty_bins(name):
  """SciPy's sums where p has no mass in one bin or more; slopes elsewhere."""
  f = getattr(adversarial, name)().f
  value, slope = jax.value_and_grad(f)(jnp.float32(0))
  np.testing.assert_allclose((value, slope), EMPTY[name], rtol=1e-6)
  q = np.float32([0.5, 0.25, 0.25])
  for p in ([1.0, 0.0, 0.0], [0.0, 0.75, 0.25]):
    found = q @ jax.jit(f)(jnp.float32(p) / q)
    truth = DIVERGENCES[name](np.float64(p), np.float64(q)).sum()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, rtol=1e-6)
  some, step = np.float32([0.2, 1.7, 40.0]), 1e-3
  slopes = jax.vmap(jax.grad(f))(jnp.array(some))
  with jax.enable_x64(True):
    ends = [
      np.asarray(f(jnp.array(np.float64(some) + h))) for h in (step, -step)
    ]
  np.testing.assert_allclose(slopes, (ends[0] - ends[1]) / 2 / step, rtol=1e-4)


@by_laws
def test_total_variation_is_a_limit(laws):
  divergence, (p, q) = adversarial.total_variation(), weights(laws)
  loss, scores = adversarial.f_gan(divergence).discriminator, np.sign(p - q)
  values = [expected(loss, size * scores, p, q) for size in (0.5, 1, 4, 20)]
  truth = abs(p - q).sum() / 2
  assert np.all(np.diff(values) < 0) and values[2] > -truth
  np.testing.assert_allclose(values[-1], -truth, rtol=1e-10)


@by_laws
@pytest.mark.parametrize("name", GAMES)
def test_games_at_their_optimum_are_the_table(name, laws):
  loss, (p, q) = getattr(adversarial, name)().discriminator, weights(laws)
  odds = np.log(p / q)
  both, swapped = np.outer(p, q), np.outer(q, p)
  scores, truth = dict(
    original=(odds, np.log(4) - twice_jensen_shannon(p, q).sum()),
    non_saturating=(odds, np.log(4) - twice_jensen_shannon(p, q).sum()),
    least_squares=(p / (p + q), q @ (p / (p + q)) / 2),
    hinge=(np.sign(p - q), 2 - abs(p - q).sum()),
    relativistic=(
      odds,
      np.log(2) - twice_jensen_shannon(both, swapped).sum() / 2,
    ),
  )[name]
  np.testing.assert_allclose(expected(loss, scores, p, q), truth, rtol=1e-10)
  assert all(raised(loss, scores, p, q))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_conjugates_are_suprema(name):
  """f*(t) = sup_u u t - f(u) at t = g(v), and g at the best score is f'."""
  divergence = getattr(adversarial, name)()
  f = lambda u: DIVERGENCES[name](u, 1.0)
  with jax.enable_x64(True):
    for v in (-1.4, -0.3, 0.2, 1.1):
      t = float(divergence.activation(jnp.float64(v)))
      least = optimize.minimize_scalar(
        lambda log_u: f(np.exp(log_u)) - np.exp(log_u) * t,
        bounds=(-20, 9),
        method="bounded",
        options=dict(xatol=1e-10),
      )
      found = divergence.conjugate(jnp.float64(v))
      np.testing.assert_allclose(found, -least.fun, rtol=1e-6, atol=1e-8)
    for u in (0.2, 0.9, 3.0):
      slope = jax.grad(divergence.f)(jnp.float64(u))
      best = divergence.activation(divergence.optimal(jnp.float64(u)))
      np.testing.assert_allclose(best, slope, rtol=1e-10)


def by_hand(r, f):
  """Both losses of every game in NumPy, D = 1 / (1 + exp(-score))."""
  real, fake = special.expit(r), special.expit(f)
  first, ahead = -np.log(real) - np.log(1 - fake), special.expit(r - f)
  return dict(
    original=(first, np.log(1 - fake)),
    non_saturating=(first, -np.log(fake)),
    least_squares=((r - 1) ** 2 / 2 + f**2 / 2, (f - 1) ** 2 / 2),
    hinge=(np.maximum(1 - r, 0) + np.maximum(1 + f, 0), -f),
    wasserstein=(f - r, -f),
    relativistic=(-np.log(ahead), -np.log(1 - ahead)),
  )


def losses(r, f):
  games = {name: getattr(adversarial, name)() for name in by_hand(0.0, 0.0)}
  return {
    name: (game.discriminator(r, f), game.generator(r, f))
    for name, game in games.items()
  }


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_values(self):
    run = self.variant(losses)
    for r, f in ((0.7, -1.3), (-2.0, 0.4), (1.5, 3.0)):
      found = run(jnp.float32(r), jnp.float32(f))
      expect.close(found, by_hand(r, f), rtol=2e-6)


def test_one_trace_and_vmap_is_a_loop():
  r, f = jnp.array([0.3, -1.0, 2.0]), jnp.array([1.0, 0.2, -3.0])
  expect.a_loop(losses, r, f)


def test_any_scores_have_finite_losses_and_slopes_in_float32():
  """And a generator never lowers its loss by lower scores."""
  scores = jnp.array([-1e4, -90.0, -1.0, 0.0, 0.9, 90.0, 1e4])
  r, f = (a.ravel() for a in jnp.meshgrid(scores, scores))
  both = lambda r, f: (losses(r, f), jax.jacrev(losses, (0, 1))(r, f))
  values, slopes = jax.device_get(jax.jit(jax.vmap(both))(r, f))
  chex.assert_tree_all_finite((values, slopes))
  for name, (discriminator, generator) in slopes.items():
    high = 1.0 if name == "least_squares" else np.inf
    assert np.all(generator[1][f < high] <= 0), name
    assert np.all(discriminator[0][r < high] <= 0), name
    assert np.all(discriminator[1][f > 0] >= 0), name
  assert not slopes["original"][1][1][f == -90.0].any()  # it saturates
  assert np.all(slopes["non_saturating"][1][1][f == -90.0] == -1)
