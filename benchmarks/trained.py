"""What benchmarks use of experiments/: its scripts, and parts of a training.

No other file of benchmarks/ imports experiments, so that all that they depend
on is listed here.
"""

import jax
import jax.numpy as jnp

from experiments import (  # noqa: F401
  bridge,
  edm,
  evaluate,
  flow_map,
  flow_matching,
  gan,
  latent_diffusion,
  masked,
  score_matching,
  wasserstein,
)
from experiments.experiment import Keys, Trained, split_keys  # noqa: F401
from experiments.lib import (  # noqa: F401
  averages,
  choices,
  datasets,
  likelihoods,
  machine,
  quality,
  run,
  samples,
  texts,
  training,
)
from experiments.pictures import (  # noqa: F401
  figures,
  metrics,
  modes,
  planes,
  pyplot,
)
from experiments.recipes import (  # noqa: F401
  bridge_measures,
  bridges,
  critics,
  diffusion,
  flow_maps,
  maps,
  networks,
)
from experiments.settings import SAMPLING  # noqa: F401
from jaxgen import fields
from jaxgen.data import loaders
from jaxgen.training import games


def play(ex, keys=None):
  """The state after all steps of an experiment, without a run directory.

  keys is an experiment.Keys; None: those of the configuration's seed.
  """
  keys = ex.keys(jax.random.key(ex.config.seed)) if keys is None else keys
  batch_fn = loaders.prefetch(ex.batches(keys.batches))
  params, num_steps = ex.players(keys.players), ex.config.num_steps
  extras = ex.extras(jax.random.fold_in(keys.players, 1))
  return games.play(ex.turns, params, batch_fn, num_steps, keys.state, extras)


def on_points(data, points):
  """The data with these points alone, the same in every epoch."""

  def batches(key, number):
    batch_fn = loaders.batches(points, key, number)
    return lambda step: (batch_fn(step), None)

  return data._replace(batches=batches)


def drifts(config, data, source, keys):
  """The field of experiments.bridge's averaged players, trained.

  keys are those of the batches, the players and the state.
  """
  batch_key, player_key, state_key = keys
  model = bridges.make(config, data, source)
  now = games.play(
    bridges.make_turns(config, model),
    model.players(player_key),
    loaders.prefetch(bridges.make_batches(config, data, source, batch_key)),
    config.num_steps,
    state_key,
    bridges.make_extras(config, model),
  )
  means = lambda player: next(iter(player.ema.values()))
  return model.field({name: means(p) for name, p in now.players.items()})


def prepare(config, data):
  """(configuration, model, turns) of a training of experiments.edm."""
  config = diffusion.resolve(config, data)
  model = diffusion.make(config, data)
  loss_fn = edm.make_loss(config, model, data.num_classes)
  return config, model, training.one_player(config, loss_fn)


def labelled(run_dir):
  """A run on labelled images: its field, (seed, number) -> states at ratio 80.

  A field is a function of x and t alone, so a second channel holds the label.
  It never changes: its velocity and noise are 0, its data is itself.
  """
  ex = samples.read(run_dir)
  trained, data = averages.load(ex), ex.data

  def estimate(x, t):
    image, label = x[..., :1], x[..., 1:]
    number = jnp.round(label.mean()).astype(int)
    at = ex.field(*trained, number)(image, t)
    still = jnp.zeros_like(label)
    join = lambda value, rest: jnp.concatenate([value, rest], -1)
    return fields.Estimate(
      velocity=join(at.velocity, still),
      data=join(at.data, label),
      noise=join(at.noise, still),
    )

  def draw(seed, number):
    noise = jax.random.normal(jax.random.key(seed), (number, *data.shape))
    labels = jnp.arange(number, dtype=noise.dtype) % data.num_classes
    labels = jnp.broadcast_to(labels[:, None, None, None], noise.shape)
    return jnp.concatenate([80.0 * noise, labels], -1)

  return fields.Field(estimate, ex.field(*trained, 0).path), draw
