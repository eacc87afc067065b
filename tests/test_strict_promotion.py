"""Nothing mixes dtypes: users run under jax.numpy_dtype_promotion("strict").

Traced, not compiled. Adaptive solves and Sinkhorn's run other libraries' code.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import (
  bridge_fields,
  codebooks,
  dequantisation,
  diffusion_bound,
  fields,
  levels,
  likelihood,
  paths,
  quantizers,
  samplers,
  traces,
)
from jaxgen.data import bridges as exact_bridges
from jaxgen.data import oracles, toy
from jaxgen.losses import bridges, denoising, flow_matching, score_matching
from tests import cases
from tests.cases import ROWS, by_path

X, T = jnp.ones(6), jnp.array([0.1, 0.3])
DRAWS = (
  levels.uniform,
  levels.stratified,
  levels.logit_normal,
  levels.log_normal,
  lambda key, path, shape: levels.logit_normal(key, path, shape, 0, 0.5, 9, 70),
)
NAMES = "gaussian eight_gaussians moons torchdyn_moons s_curve swiss_roll"
TOYS = [getattr(toy, n) for n in (*NAMES.split(), "checkerboard", "pinwheel")]
TOYS.append(lambda: toy.moons(noise=0.0))


def _strictly(function):
  """Shapes of everything that a function of a key returns."""
  with jax.numpy_dtype_promotion("strict"):
    found = jax.eval_shape(function, jax.random.key(0))
  for leaf in jax.tree.leaves(found):
    assert leaf.dtype in (jnp.float32, jnp.bool_)
  return found


@by_path
def test_paths_levels_and_losses(path):
  tail = levels.logit_normal_density(path, 0, 0.5, 9, 70)
  weights = (*cases.weights(path), levels.elbo_weight(path, tail))
  still = lambda x, t: x

  def run(key):
    each = jax.random.split(key, len(DRAWS))
    losses = [
      denoising.denoising(still, X, X, T[0], path=path, prediction=r, weight=w)
      for r in ROWS.values()
      for w in weights
    ]
    drawn = [d(k, path, (4,)) for d, k in zip(DRAWS, each, strict=True)]
    guesses = [
      tuple(fields.from_prediction(still, path, row)(X, T[0]))[:4]
      for row in ROWS.values()
    ]
    gammas = [
      bridge(T[0])
      for bridge in (flow_matching.constant(0.1), flow_matching.brownian(0.1))
    ]
    of_path = path.rates(T), path.diffusion(T), path.log_ratio(T)
    return losses, drawn, guesses, gammas, of_path

  _strictly(run)


def test_bridges():
  """In half precision too, whose estimates stay in the dtype of x."""
  eye = 2 * np.eye(6)
  law = exact_bridges.schrodinger(np.zeros(6), eye, np.ones(6), eye, std=0.7)
  known = bridge_fields.from_drifts(law.to_source, law.to_data, 0.7)
  same, one = lambda x, t: x, lambda t: 1.0
  t = T[0]

  def run(key):
    found = [law.sample(key), law.transported(3), known(X, t)]
    found.append(
      bridges.matching(same, X, X, X, t, std=0.7, weight=lambda t: t)
    )
    for path in (paths.edm(0.01, 1.0), paths.vp(0.1, 2.0)):
      ends, gamma = bridges.pinned(path)
      how = dict(path=ends, bridge=gamma, weight=one)
      denoise = lambda x, t, source: x
      found.append(bridges.restoration(denoise, X, X, X, t, **how))
      for x in (X, X.astype(jnp.bfloat16)):
        field = bridge_fields.from_pinned(denoise, x, ends, gamma)
        found.append(field(x, t))
    return found

  _strictly(run)
  half = X.astype(jnp.bfloat16)
  with jax.numpy_dtype_promotion("strict"):
    found = jax.eval_shape(lambda: law.estimate(half, t))
  assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {half.dtype}


@pytest.mark.parametrize("make", TOYS)
def test_toys_and_their_mixtures(make):
  law, x = make(), jnp.ones(2)
  assert _strictly(law.sample).shape == (2,)
  for function in (law.log_prob, law.score):
    if function is not None:
      _strictly(lambda key, f=function: f(x))
  if law.mixture is not None:
    _strictly(lambda key: law.mixture.estimate(paths.cosine(), x, 0.5))


@pytest.mark.parametrize(
  "trace",
  [traces.exact(), traces.hutchinson(5), traces.hutchpp(2)],
  ids=lambda trace: trace.name,
)
def test_divergences_and_densities(trace):
  law = oracles.gaussian(jnp.zeros(6), 2 * jnp.eye(6))
  field, times = law.field(paths.linear()), jnp.linspace(0.1, 0.9, 3)
  solve = likelihood.along(samplers.heun(), times)
  prior = likelihood.normal(1.0)
  bound = dict(prior_std=80.0, reconstruction=diffusion_bound.levels(17))
  bound |= dict(num_cells=2)

  def run(key):
    first, second, third, fourth, fifth, sixth = jax.random.split(key, 6)
    score_fn = lambda x: -x
    return (
      likelihood.log_prob(solve, field, X, first, prior=prior, trace=trace),
      likelihood.truncation(field, X, 0.01, second, trace=trace),
      law.flow_map(paths.vp(), X, 0.9, 0.1),
      score_matching.implicit(score_fn, X),
      score_matching.sliced_vr(score_fn, X, X),
      dequantisation.gaussian(third, X, 17, paths.linear(), 0.01),
      dequantisation.learned(sixth, X, 17, lambda z: (2 * z, jnp.sum(0 * z))),
      diffusion_bound.continuous(field, X, fourth, **bound),
      law.sample(fifth),
    )

  _strictly(run)


def test_traces_in_half_precision():
  """QR has none: x keeps its dtype, whatever finds the sketch's basis."""
  x = jnp.ones((2, 4), jnp.bfloat16)
  for trace in (traces.exact(), traces.hutchinson(3), traces.hutchpp(2)):
    with jax.numpy_dtype_promotion("strict"):
      probes = trace.draw(jax.random.key(1), x)
      value, found = trace.estimate(lambda x: 3 * x, x, probes)
    assert value.dtype == found.dtype == jnp.bfloat16
    assert abs(float(found.mean()) - 24) < 0.5


def test_quantizers_in_half_precision():
  """Codes keep the dtype; statistics of codebooks are wider."""
  z = jnp.ones((5, 3), jnp.bfloat16)

  def run(z):
    found = quantizers.nearest(z, z)
    state = codebooks.update(codebooks.start(z), z, found.indices, 0.9)
    rest = [quantizers.fsq(z, (3, 4, 5)).value, quantizers.lfq(z).value]
    rest.append(quantizers.rotate(z, found.value))
    return [found.value, codebooks.means(state, z, 1e-5), *rest], state

  with jax.numpy_dtype_promotion("strict"):
    values, state = jax.eval_shape(run, z)
  assert {leaf.dtype for leaf in values} == {z.dtype}
  assert {leaf.dtype for leaf in state} == {jnp.dtype("float32")}
