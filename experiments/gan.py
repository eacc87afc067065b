"""Generative adversarial networks: a generator against a discriminator.

  python -m experiments.gan r3gan --run-dir runs/r3gan
  python -m experiments.gan ring --run-dir runs/ring
  python -m experiments.gan wgan-gp --run-dir runs/wgan-gp
  python -m experiments.gan ring --run-dir runs/hinge --objective hinge

--objective says what the players make of the scores of a pair, real and
generated, --penalty what is added for the discriminator's gradient. A sample is
one call of the generator.

Methods: Goodfellow et al. 2014, arXiv:1406.2661; Nowozin et al. 2016,
arXiv:1606.00709; Mao et al. 2017, arXiv:1611.04076; Gulrajani et al. 2017,
arXiv:1704.00028; Wu et al. 2018, arXiv:1712.01026; Huang et al. 2025,
arXiv:2501.05441 (R3GAN).
"""

import functools

import jax
import jax.numpy as jnp

from experiments.lib import (
  averages,
  datasets,
  gan_settings,
  gans,
  tables,
  training,
)
from experiments.lib import run as runs
from jaxgen.losses import wasserstein
from jaxgen.training import state, step

MODULE = "experiments.gan"

Config = gan_settings.Config
PRESETS = gan_settings.PRESETS
make_method = gans.make_method


def make_turns(
  config: Config, method: gans.Method, data: datasets.Data
) -> tuple[step.Turn, ...]:
  """The discriminator's turn, then the generator's."""
  objective = tables.lookup(tables.OBJECTIVES, config.objective, "objective")
  penalty = tables.lookup(tables.PENALTIES, config.penalty, "penalty")

  def views(params, key, examples, labels):
    """Real and generated examples as the discriminator sees them."""
    make_key, real_key, made_key = jax.random.split(key, 3)
    keys = lambda key: jax.random.split(key, len(examples))
    generate = functools.partial(method.generate, params["generator"])
    made = jax.vmap(generate)(keys(make_key), labels)
    if not config.shift:
      return examples, made
    shift = jax.vmap(lambda k, x: gans.shifted(k, x, config.shift))
    return shift(keys(real_key), examples), shift(keys(made_key), made)

  def score(params, x, label):
    return method.discriminator.apply(params["discriminator"], x, label)

  def discriminator_loss(params, extras, key, batch):
    examples, labels, weight = batch
    view_key, mix_key = jax.random.split(key)
    real, made = views(params, view_key, examples, labels)
    mixes = jax.random.uniform(mix_key, (len(real),))

    def game(x, y, label):
      r, f = score(params, x, label), score(params, y, label)
      return objective.discriminator(r, f), r - f

    def bound(x, y, mix, label):
      return penalty(lambda x: score(params, x, label), x, y, mix)

    losses, gaps = jax.vmap(game)(real, made, labels)
    cost = jax.lax.cond(
      weight > 0,
      lambda: jnp.mean(jax.vmap(bound)(real, made, mixes, labels)),
      lambda: jnp.zeros(()),
    )
    metrics = {"gap": gaps.mean(), "penalty": cost}
    return losses.mean() + weight * cost, (metrics, extras)

  def generator_loss(params, extras, key, batch):
    examples, labels = batch
    real, made = views(params, key, examples, labels)

    def game(x, y, label):
      return objective.generator(
        score(params, x, label), score(params, y, label)
      )

    return jax.vmap(game)(real, made, labels).mean(), ({}, extras)

  project = None
  if config.clip is not None:
    project = functools.partial(wasserstein.clip_weights, bound=config.clip)
  inner = config.critic_steps
  return (
    step.Turn(
      "discriminator",
      discriminator_loss,
      gans.make_optimizer(config, inner * config.num_steps),
      inner,
      project,
    ),
    step.Turn(
      "generator",
      generator_loss,
      gans.make_optimizer(config, config.num_steps),
      averages=averages.rules(config),
    ),
  )


def run(config: Config) -> state.State:
  """Trains, samples and draws; resumes the run directory if it has begun."""
  return training.run(
    MODULE, config, make_method, make_turns, gans.batches, gans.pictures
  )


if __name__ == "__main__":
  runs.main(MODULE, PRESETS, run)
