"""What float32 loses at the ends of a path, on real digits; and that losses
between two sets stay finite there.

Truth is the same formula in float64 at the same float32 time. The bounds are
about three times the worst measured over five paths, the table of
docs/design.md.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from jaxgen import levels, predictions
from jaxgen.losses import denoising, flow_matching
from tests.cases import PATHS, ROWS

ENDS = (0.002, 80.0)


def example():
  """16 digits in [-1, 1] and their noise, float32 on the host, [16, 8, 8]."""
  images = datasets.load_digits().images[:16] / 8 - 1
  noise = np.random.default_rng(0).standard_normal(images.shape)
  return images.astype(np.float32), noise.astype(np.float32)


def everything(path, data, noise, t):
  """Each row's value from each other by convert, targets, and losses."""
  x_t = path.alpha(t) * data + path.sigma(t) * noise
  target = {
    name: predictions.target(path, row, data, noise, t)
    for name, row in ROWS.items()
  }
  converted = {
    (a, b): predictions.convert(
      target[a], x_t, t, path, source=ROWS[a], target=ROWS[b]
    )
    for a in ROWS
    for b in ROWS
  }
  return x_t, target, converted


def loss_of_a_gaussian_denoiser(path, data, noise, t):
  """Losses of F = 0, each prediction from edm's, weights of equal size."""

  def one(row):
    predict_fn = lambda x_t, t: predictions.convert(
      jnp.zeros_like(x_t), x_t, t, path, source=ROWS["edm"], target=row
    )
    moved = levels.uniform_weight, path, ROWS["edm"], row
    weight = predictions.reweight(*moved)
    options = dict(path=path, prediction=row, weight=weight)
    return denoising.denoising(predict_fn, data, noise, t, **options)

  return {name: one(row) for name, row in ROWS.items()}


def lost(path, ratio):
  """Relative errors: {(source, target): conversion}, {prediction: loss}."""
  data, noise = example()
  t = path.time(jnp.float32(ratio))
  run = jax.jit(
    lambda data, noise, t: (
      everything(path, data, noise, t),
      loss_of_a_gaussian_denoiser(path, data, noise, t),
    )
  )
  (_, _, ours), losses = jax.device_get(run(data, noise, t))
  with jax.enable_x64(True):
    wide = (jnp.asarray(x, jnp.float64) for x in (data, noise, t))
    (_, truth, _), true_losses = jax.device_get(run(*wide))
  size = lambda x: np.sqrt(np.mean(np.square(x)))
  conversions = {
    (a, b): size(ours[a, b] - truth[b]) / size(truth[b]) for a, b in ours
  }
  return conversions, {
    name: abs(losses[name] / true_losses[name] - 1) for name in ROWS
  }


# {noise ratio: {prediction: (worst conversion from it, its loss)}}
BOUNDS = {
  0.002: dict.fromkeys(ROWS, (1e-6, 3e-6)) | {"data": (1.5e-4, 2e-5)},
  80.0: dict.fromkeys(ROWS, (2e-6, 3e-6))
  | dict.fromkeys(("noise", "score"), (4e-5, 6e-6))
  | {"velocity": (2e-5, 3e-6)},
}


@pytest.mark.parametrize("ratio", ENDS)
def test_float32_loses_no_more_than_documented(ratio):
  results = [lost(path, ratio) for path in PATHS.values()]
  for name in ROWS:
    conversion = max(r[0][name, to] for r in results for to in ROWS)
    loss = max(r[1][name] for r in results)
    bound = BOUNDS[ratio][name]
    assert conversion < bound[0], (name, conversion)
    assert loss < bound[1], (name, loss)


@pytest.mark.parametrize("name", ["linear", "trigonometric"])
def test_flow_losses_and_gradients_are_finite(name):
  """10^5 draws of noise ratios from .002 to 80, both bridges."""
  path, number = PATHS[name], 100_000
  bridges = (
    flow_matching.constant(0.5),
    flow_matching.brownian(0.5, path.t_max),
  )
  keys = jax.random.split(jax.random.key(0), 4)

  def everything(slope, data, source, noise, t):
    args, found = (data, source, noise, t), []
    for bridge in bridges:
      options = dict(path=path, bridge=bridge, weight=levels.uniform_weight)
      net = lambda x, t: slope * x + t
      pair = lambda x, t: (slope * x, t - slope * x)
      found += [
        flow_matching.flow_matching(net, *args, **options),
        flow_matching.stochastic_interpolant(pair, *args, **options),
      ]
    return jnp.stack(found)

  @jax.jit
  def run(slope):
    low, high = np.log(ENDS)
    ratio = jax.random.uniform(keys[0], (number,), "float32", low, high)
    data, source, noise = (jax.random.normal(k, (number, 2)) for k in keys[1:])
    both = lambda *a: (everything(*a), jax.jacfwd(everything)(*a))
    return jax.vmap(both, (None, 0, 0, 0, 0))(
      slope, data, source, noise, path.time(jnp.exp(ratio))
    )

  for found in run(jnp.float32(0.7)):
    assert found.dtype == jnp.float32 and found.shape == (number, 4)
    assert np.isfinite(found).all() and np.all(np.any(found != 0, 0))
