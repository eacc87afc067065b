"""Densities against quadrature, draws against densities and scikit-learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.spatial import distance
from sklearn import datasets

from jaxgen.data import toy

# The half width of a square that holds all but 1e-7 of the mass.
WITH_DENSITY = {
  "gaussian": (toy.gaussian, 6.0),
  "tong": (toy.eight_gaussians, 8.5),
  "edm": (lambda: toy.eight_gaussians(1.0, 0.05), 1.4),
  "ring": (lambda: toy.eight_gaussians(2.0, 0.1), 2.7),
  "moons": (toy.moons, 9.0),
  "s_curve": (toy.s_curve, 4.1),
  "swiss_roll": (toy.swiss_roll, 4.2),
}


def draw(law, number, seed=0):
  keys = jax.random.split(jax.random.key(seed), number)
  return np.asarray(jax.jit(jax.vmap(law.sample))(keys), np.float64)


def energy_statistic(x, y):
  """2 E|x - y| - E|x - x'| - E|y - y'|, over its mean if the laws are one.

  This plug-in form, of n draws each, has mean 2 E|x - x'| / n for equal laws.
  """
  cross = distance.cdist(x, y).mean()
  own = distance.cdist(x, x).mean(), distance.cdist(y, y).mean()
  return (2 * cross - sum(own)) * len(x) / sum(own)


@pytest.mark.parametrize("name", WITH_DENSITY)
def test_density_integrates_to_one_and_agrees_with_the_draws(name):
  """On cells of a grid: total mass, and a chi-square of the draws' counts."""
  make, width = WITH_DENSITY[name]
  law, cells, fine = make(), 12, 40
  edge = np.linspace(-width, width, cells * fine + 1)
  middle = jnp.asarray((edge[1:] + edge[:-1]) / 2)
  log_prob = jax.vmap(jax.vmap(law.log_prob))
  rows = lambda a: log_prob(
    jnp.stack(jnp.broadcast_arrays(a[:, None], middle[None]), -1)
  )
  log_density = jax.jit(lambda: jax.lax.map(rows, middle.reshape(-1, 8)))()
  mass = np.exp(np.asarray(log_density, np.float64)) * (edge[1] - edge[0]) ** 2
  mass = mass.reshape(cells, fine, cells, fine).sum((1, 3))
  assert abs(mass.sum() - 1) < 1e-4

  number = 20_000
  x = draw(law, number)
  counts = np.histogram2d(*x.T, bins=[edge[::fine]] * 2)[0]
  full = number * mass > 8
  expected = np.append((number * mass)[full], number * mass[~full].sum() + 1e-9)
  counts = np.append(counts[full], number - counts[full].sum())
  kept = expected > 1
  statistic = np.sum((counts - expected)[kept] ** 2 / expected[kept])
  assert statistic < stats.chi2.isf(1e-4, kept.sum() - 1)


@pytest.mark.parametrize("name", ["gaussian", "ring", "swiss_roll"])
def test_score_is_the_gradient_of_the_density(name):
  with jax.enable_x64(True):
    law = WITH_DENSITY[name][0]()
    both = jax.jit(
      jax.vmap(lambda x: (jax.grad(law.log_prob)(x), law.score(x)))
    )
    x = jax.vmap(law.sample)(jax.random.split(jax.random.key(1), 50))
    gradient, score = both(x)
    np.testing.assert_allclose(score, gradient, rtol=1e-8, atol=1e-8)


def curve_density(x, arcs, noise, scale, shift):
  """By adaptive quadrature along each arc, from the draws' own definition."""
  std = scale * noise

  def integrand(u, arc):
    return np.prod(stats.norm.pdf(x, scale * np.array(arc(u)) + shift, std))

  pieces = np.linspace(0, 1, 41)
  total = 0.0
  for arc in arcs:
    for low, high in itertools.pairwise(pieces):
      total += integrate.quad(integrand, low, high, (arc,), epsrel=1e-12)[0]
  return total / len(arcs)


def unit_arcs(name):
  pi = np.pi
  if name == "moons":
    return (
      lambda u: (np.cos(pi * u), np.sin(pi * u)),
      lambda u: (1 - np.cos(pi * u), 0.5 - np.sin(pi * u)),
    )
  if name == "s_curve":  # scikit-learn's formula, u over the whole curve
    v = lambda u: 3 * pi * (u - 0.5)
    return (lambda u: (np.sin(v(u)), np.sign(v(u)) * (np.cos(v(u)) - 1)),)
  v = lambda u: 1.5 * pi * (1 + 2 * u)
  return (lambda u: (v(u) * np.cos(v(u)), v(u) * np.sin(v(u))),)


@pytest.mark.parametrize(
  ("name", "settings"),
  [
    ("moons", (0.2, 3.0, -1.0)),
    ("moons", (0.03, 1.0, 0.0)),
    ("s_curve", (0.1, 1.5, 0.0)),
    ("swiss_roll", (1.0, 0.2, 0.0)),
  ],
)
def test_curve_density_against_adaptive_quadrature(name, settings):
  noise, scale, shift = settings
  with jax.enable_x64(True):
    extra = (shift,) if name == "moons" else ()
    law = getattr(toy, name)(noise, scale, *extra)
    density = jax.jit(lambda x: jnp.exp(law.log_prob(x)))
    arcs = unit_arcs(name)
    for arc, u, shake in ((0, 0.0, 1.0), (-1, 0.37, -1.5), (0, 0.9, 2.5)):
      x = scale * (np.array(arcs[arc](u)) + noise * shake) + shift
      truth = curve_density(x, arcs, noise, scale, shift)
      np.testing.assert_allclose(density(jnp.asarray(x)), truth, rtol=1e-9)


@pytest.mark.parametrize("name", ["moons", "s_curve", "swiss_roll"])
def test_curves_have_the_law_of_scikit_learn(name):
  """Energy statistic: mean 1 for equal laws, at most 3.4 in 120 such pairs."""
  number, peer = 2000, getattr(datasets, f"make_{name}")
  noise = dict(moons=0.1, s_curve=0.1, swiss_roll=1.0)[name]
  theirs = peer(number, noise=noise, random_state=0)[0][:, [0, -1]]
  extra = dict(shift=0.0) if name == "moons" else {}
  ours = draw(getattr(toy, name)(noise=noise, scale=1.0, **extra), number)
  assert energy_statistic(ours, theirs) < 4
  moved = ours + 0.2 * ours.std(0)  # and it sees a fifth of a deviation
  assert energy_statistic(moved, theirs) > 4


def test_torchdyn_moons():
  """Off its half circle by 3 x .2 (u, u): same shift on both coordinates."""
  law = toy.torchdyn_moons()
  assert law.log_prob is None and law.score is None and law.mixture is None
  x = (draw(law, 4000) + 1) / 3
  theta, u = np.meshgrid(np.linspace(0, np.pi, 300), np.linspace(0, 0.2, 60))
  outer = np.stack([np.cos(theta), np.sin(theta)], -1) + u[..., None]
  inner = np.stack([1 - np.cos(theta), 0.5 - np.sin(theta)], -1) + u[..., None]
  support = np.concatenate([outer.reshape(-1, 2), inner.reshape(-1, 2)])
  assert distance.cdist(x[:300], support).min(1).max() < 0.01
  mean = np.array([0.5, 0.25]) + 0.1
  np.testing.assert_allclose(x.mean(0), mean, atol=5 * x.std() / 4000**0.5)


def test_checkerboard():
  law = toy.checkerboard()
  number = 16_000
  x = draw(law, number)
  counts = np.histogram2d(*x.T, bins=[np.linspace(-4, 4, 5)] * 2)[0]
  black = np.indices((4, 4)).sum(0) % 2 == 0
  assert counts[~black].sum() == 0 and counts.sum() == number
  expected = number / 8
  statistic = np.sum((counts[black] - expected) ** 2 / expected)
  assert statistic < stats.chi2.isf(1e-4, 7)
  inside = (x + 4) / 2 % 1  # uniform in its cell
  assert all(
    stats.kstest(inside[:, i], "uniform").pvalue > 1e-4 for i in (0, 1)
  )

  middle = (np.arange(80) + 0.5) / 10 - 4
  grid = jnp.asarray(np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2))
  density = jnp.exp(jax.jit(jax.vmap(law.log_prob))(grid))
  np.testing.assert_allclose(density.sum() * 0.01, 1, rtol=1e-5)
  log_prob = jax.jit(jax.vmap(law.log_prob))
  assert np.all(np.isfinite(log_prob(jnp.asarray(x, jnp.float32))))
  outside = jnp.array([[4.1, 3.0], [-5.0, -5.0], [-3.0, -1.0]])
  assert np.all(np.isneginf(log_prob(outside)))
  np.testing.assert_array_equal(law.score(grid[0]), jnp.zeros(2))


def test_pinwheel():
  """Untwisted, the draws are the Gaussian arms that they came from."""
  law = toy.pinwheel()
  assert law.log_prob is None
  x = draw(law, 5000) / 2
  radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
  radial = radius  # f_1 = radius cos(turn), turn small: two fixed-point steps
  for _ in range(60):
    turn = angle + 0.25 * np.exp(radial)
    turn = (turn + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5
    radial = radius * np.cos(turn)
  tangential = radius * np.sin(turn)
  usual = (radius > 0.5) & (radius < 1.7)
  assert usual.mean() > 0.9
  number = usual.sum()
  assert abs(tangential[usual].std() - 0.1) < 0.01
  assert abs(tangential[usual].mean()) < 5 * 0.1 / number**0.5
  arms = np.round((angle + 0.25 * np.exp(radial)) / (2 * np.pi / 5)) % 5
  counts = np.bincount(arms[usual].astype(int), minlength=5)
  statistic = np.sum((counts - number / 5) ** 2 / (number / 5))
  assert statistic < stats.chi2.isf(1e-4, 4)


def test_the_mixture_is_the_law():
  for law in (toy.gaussian(), toy.eight_gaussians(), toy.moons()):
    assert np.isclose(law.mixture.weights.sum(), 1)
  assert toy.moons(noise=0.0).log_prob is None
  assert toy.moons(noise=0.0).mixture is None


def test_a_draw_is_one_example_of_its_key():
  for make in (toy.moons, toy.checkerboard, toy.pinwheel):
    draws = jax.jit(jax.vmap(make().sample))
    x = draws(jax.random.split(jax.random.key(0), 3))
    assert x.shape == (3, 2) and x.dtype == jnp.float32
    assert len(np.unique(x, axis=0)) == 3
