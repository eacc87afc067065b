"""A bridge between two Gaussians, measured against the exact one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import datasets
from experiments.recipes import bridges
from jaxgen.data import bridges as exact_bridges


def exact(
  config: Any, data: datasets.Data, source: datasets.Data
) -> exact_bridges.Gaussians | None:
  """The Schrodinger bridge, if both ends are single axis-aligned Gaussians."""
  ends = []
  for mixture in (data.mixture, source.mixture):
    if mixture is None or len(mixture.means) > 1 or mixture.basis is not None:
      return None
    with jax.ensure_compile_time_eval():
      _, means, stds = mixture.arrays(jnp.float32)
    ends += [np.asarray(means[0]), np.diag(np.asarray(stds[0]) ** 2)]
  return exact_bridges.schrodinger(*ends, std=config.bridge_std)


def divergences(
  states: np.ndarray, times: np.ndarray, truth: exact_bridges.Gaussians
) -> np.ndarray:
  """KL(fitted, exact) in nats at every time, summed over coordinates, [T].

  A Gaussian is fitted to each coordinate of the states, and compared with the
  bridge's of the same mean and variance.

  Args:
    states: [N, T, D], N at least 2.
    times: [T].
    truth: the bridge.
  """
  states = np.asarray(states, np.float64)
  moments = jax.vmap(lambda t: (truth.mean(t), jnp.diag(truth.covariance(t))))
  mean, variance = map(np.float64, moments(jnp.asarray(times)))
  ratio = states.var(0, ddof=1) / variance
  gap = (states.mean(0) - mean) ** 2 / variance
  return (ratio - 1 - np.log(ratio) + gap).sum(1) / 2


def measure(
  model: bridges.Drifts, truth: exact_bridges.Gaussians, found: Any
) -> tuple[dict[str, Any], str]:
  """The record of result.json: the divergences of the samples shown."""
  number, times = len(found.states), np.asarray(model.times)
  values = divergences(found.states, times, truth)
  floor = states_of(truth, times, number)
  low = float(divergences(floor, times, truth).mean())
  mean = float(values.mean())
  record = dict(number=number, kl=values.tolist(), mean_kl=mean, floor=low)
  text = f"KL of {number} samples to the exact bridge, mean over {len(times)}"
  return record, f"{text} times: {mean:.3g}; of exact samples: {low:.3g}"


def states_of(
  truth: exact_bridges.Gaussians, times: np.ndarray, number: int, seed: int = 0
) -> np.ndarray:
  """Exact samples of the marginals, independent at every time, [N, T, D]."""
  rng = np.random.default_rng(seed)
  draw = lambda t: rng.multivariate_normal(
    truth.mean(t), truth.covariance(t), number, method="cholesky"
  )
  return np.stack([draw(float(t)) for t in times], 1)
