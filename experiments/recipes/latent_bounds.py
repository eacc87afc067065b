"""Bounds on the likelihood of held-out data, and how a latent is used."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import experiment
from experiments.lib import datasets
from experiments.recipes import latent_variables
from jaxgen.losses import importance, variational
from jaxgen.metrics import latents

NUM_MEASURED = 1000  # largest number of examples that are measured


class Measured(NamedTuple):
  """Means over held-out examples, in nats, and the use of the latent.

  Attributes:
    number: number of examples.
    elbo: lower bound on log p(x).
    kl: log q(z | x) - log p(z) of one sample.
    kls: analytic KL to N(0, I) of each coordinate, [Z].
    bound: the bound of many weighted samples.
    active: number of active units.
    variances: variance of each coordinate's posterior mean, [Z].
    means: posterior means, [N, Z].
  """

  number: int
  elbo: float
  kl: float
  kls: np.ndarray
  bound: float
  active: int
  variances: np.ndarray
  means: np.ndarray


def measure(
  model: latent_variables.Model,
  params: Any,
  extras: Any,
  examples: np.ndarray,
  labels: Any,
  key: Any,
  number: int,
) -> Measured:
  """Measures at most NUM_MEASURED examples with `number` samples of each."""
  examples = np.asarray(examples[:NUM_MEASURED])
  labels = None if labels is None else jnp.asarray(labels[:NUM_MEASURED])

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
  def run(params, key, x, label):
    weight_key, noise_key = jax.random.split(key)
    posterior = model.posterior(params, x, label)
    noise = jax.random.normal(noise_key, (model.latent,))
    z = variational.sample(posterior, noise)
    prior = model.prior(params, label)
    rate = variational.log_prob(posterior, z) - prior(z)
    log_w = model.log_weights(params, extras, weight_key, x, label, number)
    found = log_w.mean(), rate, variational.kl(posterior)
    return *found, importance.iwae(log_w), posterior.mean

  keys = jax.random.split(key, len(examples))
  found = run(params, keys, examples, labels)
  elbo, rate, kls, bound, means = (np.asarray(x, float) for x in found)
  active = latents.active_units(jnp.asarray(means, jnp.float32))
  return Measured(
    len(examples),
    float(elbo.mean()),
    float(rate.mean()),
    kls.mean(0),
    float(bound.mean()),
    int(active.number),
    np.asarray(active.variances),
    means,
  )


def held_out(
  config: Any,
  model: latent_variables.Model,
  data: datasets.Data,
  now: experiment.Trained,
  number: int,
) -> Measured:
  """`measure` of the validation split, with `number` samples per example."""
  key = jax.random.fold_in(jax.random.key(config.seed), 1001)
  params, (examples, labels) = now.params["model"], data.real
  return measure(model, params, now.extras, examples, labels, key, number)


def record(
  config: Any,
  model: latent_variables.Model,
  data: datasets.Data,
  now: experiment.Trained,
) -> tuple[dict[str, Any], str]:
  """The record of result.json of the validation split, and its text."""
  found = held_out(config, model, data, now, config.num_weights)
  log_std = model.log_std(now.params["model"], now.extras)
  values = dict(
    number=found.number,
    elbo=found.elbo,
    reconstruction=found.elbo + found.kl,
    kl=found.kl,
    num_weights=config.num_weights,
    weighted_bound=found.bound,
    latent=model.latent,
    active_units=found.active,
    kl_of_units=[round(float(kl), 4) for kl in found.kls],
  )
  if log_std is not None:
    values["decoder_std"] = float(np.exp(log_std).mean())
  lines = (
    f"{found.number} held-out examples, nats",
    f"ELBO                   {found.elbo:9.3f}",
    f"  E log p(x | z)       {found.elbo + found.kl:9.3f}",
    f"  KL                   {found.kl:9.3f}",
    f"{f'bound of {config.num_weights} samples':<23}{found.bound:9.3f}",
    f"active units: {found.active} of {model.latent}",
  )
  return values, "\n".join(lines)


def reconstructed(
  model: latent_variables.Model, params: Any, examples: Any, labels: Any
) -> np.ndarray:
  """E[x | z] at the means of the posteriors, [N, *D]."""

  def one(x, label):
    z = model.posterior(params, x, label).mean
    return model.mean(params, z, label)

  return np.asarray(jax.jit(jax.vmap(one))(examples, labels))


def traversed(
  model: latent_variables.Model,
  params: Any,
  start: np.ndarray,
  label: Any,
  units: np.ndarray,
  values: np.ndarray,
) -> np.ndarray:
  """E[x | z] where one coordinate of z has other values, [R, C, *D].

  Args:
    model: the model.
    params: its parameters.
    start: the latent, [Z].
    label: [], or None.
    units: the coordinates, [R].
    values: their values, [C].
  """
  z = jnp.asarray(start, jnp.float32)
  one = lambda i, value: model.mean(params, z.at[i].set(value), label)
  grid = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
  return np.asarray(jax.jit(grid)(units, jnp.asarray(values, jnp.float32)))


def plane(found: Measured) -> tuple[np.ndarray, list[str]]:
  """Posterior means of the two coordinates of largest KL, and their names.

  The second is 0 for a latent of one coordinate.
  """
  order = np.argsort(-found.kls)[:2]
  means = found.means[:, order]
  names = [f"coordinate {i}, KL {found.kls[i]:.2f} nats" for i in order]
  if len(order) == 1:
    return np.pad(means, ((0, 0), (0, 1))), [*names, ""]
  return means, names
