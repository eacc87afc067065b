"""What the eight families share: their settings, a network, an Experiment."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import averages
from jaxgen.models import mlp
from jaxgen.training import step


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Devices,
  settings.Data,
  settings.Run,
):
  """Settings of one run; JSON holds them all."""

  data: str = "moons"
  """Dataset of points on the plane."""
  family: str = "vae"
  """Name of a function of this file."""
  first: str | None = None
  """Directory of the run that this one reads, or None."""
  num_steps: int = 20
  """Number of training steps, at least 1."""
  batch_size: int = 32
  """Number of examples per step, at least 1."""


def net(outputs):
  """(init, apply) of a small network [D] -> [outputs]."""
  hidden = mlp.MLP(features=(16,))
  last = jax.nn.initializers.lecun_normal()

  def init(key, x):
    first, second = jax.random.split(key)
    body = hidden.init(first, x, jnp.zeros(()))
    return body, last(second, (len(x), outputs))

  def apply(params, x):
    body, out = params
    return (x + hidden.apply(body, x, jnp.zeros(()))) @ out

  return init, apply


def built(config, data, init, loss_fn, **fields):
  """The Experiment of one player, loss_fn(params, extras, key, x, step)."""
  turn = step.Turn(
    "model", loss_fn, optax.adam(1e-2), averages=averages.rules(config)
  )

  def batches(key):
    batch_fn = data.unlabelled(key, config.batch_size)
    return lambda number: {"model": batch_fn(number)}

  return Experiment(
    config,
    data,
    players=lambda key: {"model": init(key)},
    turns=(turn,),
    batches=fields.pop("batches", batches),
    sampled=("model",),
    **fields,
  )
