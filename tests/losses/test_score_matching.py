"""Score matching: five losses, one minimiser, on Gaussians in closed form.

The losses are polynomials of degree two in the points, so that a mean over
2 D points, mean +- sqrt(D) columns of a root of the covariance, is exact.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxgen import paths, predictions
from jaxgen.losses import denoising, score_matching
from tests import expect
from tests.cases import PATHS

DIM, SIGMA = 3, 0.6
RNG = np.random.default_rng(0)
MEAN = np.array([0.5, -1.0, 2.0])
ROOT = np.tril(0.4 * RNG.standard_normal((DIM, DIM))) + 0.7 * np.eye(DIM)
DATA = ROOT @ ROOT.T  # the data's covariance; the law below is the data's
COVARIANCE = DATA + SIGMA**2 * np.eye(DIM)  # under noise of size SIGMA
PRECISION = np.linalg.inv(COVARIANCE)
# sqrt(D) times an orthonormal basis: the mean of u u^T is the identity.
DIRECTIONS = np.sqrt(DIM) * np.linalg.qr(RNG.standard_normal((DIM, DIM)))[0]
W, B = RNG.standard_normal((DIM, DIM)), RNG.standard_normal(DIM)


def cubature(mean, covariance):
  """Points whose mean is the expectation of any polynomial of degree 3."""
  columns = np.sqrt(len(mean)) * np.linalg.cholesky(covariance).T
  return mean + np.concatenate([columns, -columns])


def linear(params):
  return lambda x: params[0] @ x + params[1]


def expectations(params):
  """The mean of every loss over its law, as a function of (W, b)."""
  x = cubature(MEAN, COVARIANCE)
  joint = np.block(
    [[DATA, np.zeros((DIM, DIM))], [np.zeros((DIM, DIM)), np.eye(DIM)]]
  )
  pairs = cubature(np.append(MEAN, np.zeros(DIM)), joint)
  score_fn = linear(params)
  over = lambda loss, *points: jax.vmap(loss)(*points).mean()
  sliced = lambda loss: jax.vmap(
    lambda u: over(lambda x: loss(score_fn, x, u), x)
  )(DIRECTIONS).mean()
  options = dict(path=paths.edm(), prediction=predictions.score)
  options |= dict(weight=jnp.ones_like)
  predict_fn = lambda x_t, t: score_fn(x_t)
  noised = lambda pair: denoising.denoising(
    predict_fn, pair[:DIM], pair[DIM:], SIGMA, **options
  )
  explicit = lambda x: score_matching.explicit(
    score_fn, x, PRECISION @ (MEAN - x)
  )
  return dict(
    explicit=over(explicit, x),
    implicit=over(lambda x: score_matching.implicit(score_fn, x), x),
    sliced=sliced(score_matching.sliced),
    sliced_vr=sliced(score_matching.sliced_vr),
    denoising=over(noised, pairs),
  )


def test_gradients_agree_in_expectation_with_the_closed_form():
  """E |W x + b + P (x - m)|^2 / D, for x ~ N(m, P^-1)."""
  with jax.enable_x64(True):
    run = jax.jit(lambda p: (expectations(p), jax.jacrev(expectations)(p)))
    values, gradients = jax.device_get(run((jnp.array(W), jnp.array(B))))
  residual = W @ MEAN + B
  truth = (
    2 / DIM * ((W @ COVARIANCE + np.eye(DIM)) + np.outer(residual, MEAN)),
    2 / DIM * residual,
  )
  for name, found in gradients.items():
    for part, expected in zip(found, truth, strict=True):
      np.testing.assert_allclose(part, expected, rtol=1e-10, err_msg=name)
  off = W + PRECISION
  explicit = (np.trace(off @ COVARIANCE @ off.T) + residual @ residual) / DIM
  constant = np.trace(PRECISION) / DIM  # mean_i E (d_i log p)^2
  np.testing.assert_allclose(values["explicit"], explicit, rtol=1e-10)
  for name in ("implicit", "sliced", "sliced_vr"):
    np.testing.assert_allclose(values[name], explicit - constant, rtol=1e-9)
  # And that of -noise / sigma, whose square has the mean 1 / sigma^2.
  truth = explicit - constant + 1 / SIGMA**2
  np.testing.assert_allclose(values["denoising"], truth, rtol=1e-9)


def fitted(network, points):
  """(W, b) of the score network(W, b) with the least implicit loss.

  By one step of Newton's, in least squares: the quadratic may be flat.
  """
  unpack = lambda flat: (flat[DIM:].reshape(DIM, DIM), flat[:DIM])

  def loss(flat):
    one = lambda x: score_matching.implicit(network(*unpack(flat)), x)
    return jax.vmap(one)(jnp.asarray(points)).mean()

  with jax.enable_x64(True):
    run = jax.jit(lambda p: (jax.grad(loss)(p), jax.hessian(loss)(p)))
    gradient, hessian = run(jnp.zeros(DIM + DIM**2))
  return unpack(-np.linalg.lstsq(hessian, gradient, rcond=1e-9)[0])


def test_implicit_recovers_mean_and_covariance():
  points = MEAN + RNG.standard_normal((40, DIM)) @ ROOT.T
  w, b = fitted(lambda *params: linear(params), points)
  covariance = -np.linalg.inv(w)
  np.testing.assert_allclose(covariance @ b, points.mean(0), 1e-8)
  np.testing.assert_allclose(covariance, np.cov(points.T, bias=True), 1e-8)


def test_an_energy_network_recovers_the_precision():
  """Energy x^T S x / 2 - b x, S a symmetric part: its score is -S x + b."""
  energy = lambda s, b: lambda x: x @ s @ x / 2 - b @ x
  network = lambda s, b: score_matching.from_energy(energy(s, b))
  s, b = fitted(network, cubature(MEAN, COVARIANCE))
  np.testing.assert_allclose((s + s.T) / 2, PRECISION, 1e-8)
  np.testing.assert_allclose(b, PRECISION @ MEAN, 1e-8)


def test_energies_have_the_derivatives_of_finite_differences():
  energy = lambda params, x, t: t * jnp.sum(jnp.logaddexp(0, params @ x) ** 2)

  @jax.jit
  def everything(params):
    score_fn = score_matching.from_energy(lambda x, t: energy(params, x, t))
    at = lambda x: score_fn(x, 0.7)
    return (
      at(x),
      score_matching.implicit(at, x),
      score_matching.sliced(at, x, direction),
    )

  with jax.enable_x64(True):
    x, direction = jnp.array(MEAN), jnp.array(DIRECTIONS[0])
    params, h, move = jnp.array(W), 1e-5, 1e-5 * jnp.eye(DIM)
    score, _, _ = everything(params)
    slopes = (
      jax.vmap(lambda d: energy(params, x + d, 0.7))(move)
      - jax.vmap(lambda d: energy(params, x - d, 0.7))(move)
    ) / (2 * h)
    np.testing.assert_allclose(score, -slopes, rtol=1e-7)
    _, *rates = jax.jvp(everything, (params,), (jnp.array(W.T),))[1]
    more, less = (everything(params + s * h * W.T)[1:] for s in (1, -1))
    for rate, up, down in zip(rates, more, less, strict=True):
      np.testing.assert_allclose(rate, (up - down) / (2 * h), rtol=1e-6)


def curved(x):
  """A score with a full Jacobian, on any shape."""
  return jnp.tanh(x) * jnp.sum(x)


def by_hand(x, u, score):
  """The four losses of `curved`, in NumPy."""
  tanh = np.tanh(x)
  s, jacobian = tanh * x.sum(), tanh[:, None] + np.diag(1 - tanh**2) * x.sum()
  slope = 2 * u @ jacobian @ u
  return dict(
    explicit=np.mean((s - score) ** 2),
    implicit=np.mean(s**2 + 2 * np.diag(jacobian)),
    sliced=((u @ s) ** 2 + slope) / len(x),
    sliced_vr=(s @ s + slope) / len(x),
  )


def losses(x, u, score):
  return dict(
    explicit=score_matching.explicit(curved, x, score),
    implicit=score_matching.implicit(curved, x),
    sliced=score_matching.sliced(curved, x, u),
    sliced_vr=score_matching.sliced_vr(curved, x, u),
  )


def arrays(*shape):
  rng = np.random.default_rng(1)
  return [rng.standard_normal(shape).astype("float32") for _ in range(3)]


class Variants(chex.TestCase):
  @chex.all_variants(with_pmap=False)
  @parameterized.parameters((), (3,), (2, 2, 1))
  def test_values(self, *shape):
    x, u, score = arrays(*shape)

    @self.variant
    def run(x, u, score):
      return losses(*map(jnp.asarray, (x, u, score)))  # from NumPy too

    found = run(x, u, score)
    truth = by_hand(*(np.float64(a).ravel() for a in (x, u, score)))
    expect.scalars(found, truth, rtol=2e-5)


def test_one_trace_and_vmap_is_a_loop():
  expect.a_loop(losses, *map(jnp.asarray, arrays(3, DIM)), rtol=1e-5)


def test_directions_of_variance_one_are_needed_and_vr_has_less_variance():
  x, _, _ = map(jnp.asarray, arrays(DIM))
  u = jax.random.normal(jax.random.key(0), (4000, DIM))
  run = jax.jit(jax.vmap(losses, (None, 0, None)))
  found = {n: np.asarray(v) for n, v in run(x, u, x).items()}
  for name in ("sliced", "sliced_vr"):
    error = found[name].std() / np.sqrt(len(u))
    assert abs(found[name].mean() - found["implicit"][0]) < 4 * error
  assert found["sliced_vr"].std() < 0.9 * found["sliced"].std()


@pytest.mark.parametrize("name", ["edm", "linear", "trigonometric"])
def test_values_and_gradients_are_finite_in_float32(name):
  """10^5 draws, noise ratios from .002 to 80, weight sigma^2."""
  path, number = PATHS[name], 100_000
  keys = jax.random.split(jax.random.key(3), 4)

  @jax.jit
  def run(params):
    low, high = np.log([0.002, 80.0])
    ratio = jnp.exp(
      jax.random.uniform(keys[0], (number,), "float32", low, high)
    )
    data, noise, u = (jax.random.normal(key, (number, DIM)) for key in keys[1:])

    def everything(params, data, noise, u, t):
      sigma = path.sigma(t)
      x_t = path.alpha(t) * data + sigma * noise
      score_fn = linear(params)
      found = (
        score_matching.explicit(score_fn, x_t, -noise / sigma),
        score_matching.implicit(score_fn, x_t),
        score_matching.sliced(score_fn, x_t, u),
        score_matching.sliced_vr(score_fn, x_t, u),
      )
      return sigma**2 * jnp.stack(found)

    both = lambda *args: (everything(*args), jax.jacrev(everything)(*args))
    return jax.vmap(both, (None, 0, 0, 0, 0))(
      params, data, noise, u, path.time(ratio)
    )

  for leaf in jax.tree.leaves(run((jnp.float32(W), jnp.float32(B)))):
    assert leaf.dtype == jnp.float32 and len(leaf) == number
    assert np.isfinite(leaf).all() and np.any(leaf != 0)


def test_mismatches_are_refused():
  x, u, score = map(jnp.asarray, arrays(4))
  losses = {
    score_matching.explicit: (x, score),
    score_matching.implicit: (x,),
    score_matching.sliced: (x, u),
    score_matching.sliced_vr: (x, u),
  }
  explicit, _, *sliced = losses
  expect.error("score: expected shape", explicit, curved, x, score[:3])
  for loss in sliced:
    expect.error("direction: expected shape", loss, curved, x, u[:, None])
  for bad in (lambda x: x[:3], lambda x: x.sum()):
    for loss, args in losses.items():
      expect.error("score_fn: expected shape", loss, bad, *args)
