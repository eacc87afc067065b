"""The affine recursion of a stochastic solver on Gaussian data, and its limit.

For data N(MEAN, STD^2) every step is an affine map of what is carried and of
the step's draws,

  state' = A state + b + K z,   state = (x, memory)

A, b and K are probed from outside, with draws of one unit each, never read off
the step's formula. They give mean and variance at the end without Monte Carlo,
and these converge to alpha MEAN and alpha^2 STD^2 + sigma^2.
"""

import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import fields, predictions, samplers
from jaxgen.samplers import driver
from tests.truth import mixture

MEAN, STD = 0.8, 0.3
NUM_DRAWS = 4  # of a step, at most


def gaussian_field(path, mean=MEAN, std=STD):
  """The exact denoiser of N(mean, std^2), of every coordinate of x."""

  def denoise(x, t):
    alpha, sigma = path.alpha(t), path.sigma(t)
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    return mean + gain * (x - alpha * mean)

  return fields.from_prediction(denoise, path, predictions.data)


def affine(solver, field, times):
  """A [N, S, S], b [N, S], K [N, S, NUM_DRAWS] of every step; x64.

  x has a coordinate for each draw of a step: coordinate j sees a 1 as draw j
  and 0 as the others, the first zeros only. Also how far a step at a state far
  away is from the map, [N].
  """
  one = jnp.ones(NUM_DRAWS + 1)
  memory = solver.init(field, jax.random.key(0), 0 * one, times)
  leaves, tree = jax.tree.flatten((0 * one, memory))
  size = len(leaves)

  def of_step(c):
    def step(state):
      x, memory = jax.tree.unflatten(tree, [s * one for s in state])
      draws = itertools.count(1)
      unit = lambda key, x: jnp.eye(len(one))[next(draws)]
      with mock.patch.object(driver, "normal", unit):
        after = solver.step(field, jax.random.key(0), x, c, memory)
      return jnp.stack(jax.tree.leaves(after))

    states = [jnp.zeros(size), *jnp.eye(size), 1 + jnp.arange(1.0, size + 1)]
    zero, *units, far = [step(state) for state in states]
    b, k = zero[:, 0], zero[:, 1:] - zero[:, :1]
    a = jnp.stack([unit[:, 0] - b for unit in units], -1)
    return a, b, k, jnp.abs(far[:, 0] - a @ states[-1] - b).max()

  return jax.vmap(of_step)(solver.plan(field.path, times))


def moments(maps, mean, variance):
  """Mean and variance of x after all steps, from a memory of zeros.

  Leading axes of the maps are batches.
  """
  a, b, k, wrong = (np.asarray(v) for v in maps)
  if wrong.max() > 1e-9:
    raise ValueError(f"moments: expected affine steps, got {wrong.max()}")
  first = np.eye(a.shape[-1])[0]
  means, covariance = (first * mean)[:, None], np.diag(first * variance)
  for n in range(b.shape[-2]):
    step, draws = a[..., n, :, :], k[..., n, :, :]
    means = step @ means + b[..., n, :, None]
    covariance = step @ covariance @ step.mT + draws @ draws.mT
  return np.stack([means[..., 0, 0], covariance[..., 0, 0]], -1)


def marginal(name, ratio):
  """Mean and variance of x_t at a noise ratio, on the path of this name."""
  s, t = mixture.scales(name), mixture.time(name, ratio)
  return s.alpha(t) * MEAN, (s.alpha(t) * STD) ** 2 + s.sigma(t) ** 2


def moment_errors(name, solver, ratios, num_steps, scales=None):
  """Errors of the final mean and variance, by N, and their truth; x64.

  Args:
    name: of the path.
    solver: a stochastic solver.
    ratios: the noise ratios at the start and at the end.
    num_steps: several N, uniform in log ratio.
    scales: factors on the leaves of the plan, [K, leaves]; None for one row of
      ones. To see that each matters.

  Returns:
    errors [K, len(num_steps), 2], truth [2].
  """
  path = mixture.jaxgen_path(name)
  field = gaussian_field(path)
  start, end = (marginal(name, ratio) for ratio in ratios)

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None))
  def run(scales, times):
    def plan(path, times):
      leaves, tree = jax.tree.flatten(solver.plan(path, times))
      return jax.tree.unflatten(
        tree, [v * s for v, s in zip(leaves, scales, strict=True)]
      )

    return affine(solver._replace(plan=plan), field, times)

  if scales is None:
    plan = jax.eval_shape(lambda times: solver.plan(path, times), np.ones(2))
    scales = np.ones((1, len(jax.tree.leaves(plan))))
  found = np.empty((len(scales), len(num_steps), 2))
  # One program serves every N if the last time is repeated, but for the plan of
  # churn, which depends on N.
  longest = 0 if solver.name == "churn" else max(num_steps)
  for i, n in enumerate(num_steps):
    times = samplers.grids.log_snr(path, n, min(ratios), max(ratios))
    times = np.asarray(times)[:: -1 if ratios[0] < ratios[1] else 1]
    times = np.pad(times, (0, max(0, longest - n)), mode="edge")
    maps = [np.asarray(v)[:, :n] for v in run(scales, times)]
    found[:, i] = moments(maps, *start)
  return found - np.array(end), end
