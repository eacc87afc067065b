"""Solvers on the mixture, and the draws that they use, for transcriptions."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import samplers
from tests.truth import mixture

SEED = 3


def run(solver, path, times, x, field=None):
  """The last state, and the final denoise there."""
  field = mixture.field(path) if field is None else field

  @jax.jit
  def ends(x, times):
    key = jax.random.key(SEED)
    x = samplers.integrate(solver, field, x, times, key)
    return x, field(x, times[-1]).data

  return [np.asarray(v) for v in ends(jnp.asarray(x), jnp.asarray(times))]


def _step_keys(num_steps):
  _, step_key = jax.random.split(jax.random.key(SEED))
  return jax.vmap(lambda n: jax.random.fold_in(step_key, n))(
    jnp.arange(num_steps)
  )


def _normal(key):
  return jax.random.normal(key, (2,), "float64")


def draws(num_steps):
  """The standard normals of a solver with one draw a step, [N, 2]."""
  fn = lambda: jax.vmap(_normal)(_step_keys(num_steps))
  return np.asarray(jax.jit(fn)())


def stage_draws(num_steps):
  """Those of a solver with two stages, each folded in: [2, N, 2]."""

  def fn():
    keys = _step_keys(num_steps)
    fold = lambda key, k: _normal(jax.random.fold_in(key, k))
    return [jax.vmap(lambda key: fold(key, k))(keys) for k in (0, 1)]

  return [np.asarray(v) for v in jax.jit(fn)()]
