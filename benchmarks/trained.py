"""What benchmarks need from experiments: scripts, and the parts of a training.

Nothing else below benchmarks/ imports experiments, so a new name there is a new
line here.
"""

import jax
import jax.numpy as jnp

from experiments import (  # noqa: F401
  edm,
  evaluate,
  flow_matching,
  gan,
  score_matching,
  wasserstein,
)
from experiments.lib import (  # noqa: F401
  averages,
  build,
  critics,
  datasets,
  distances,
  drawing,
  figures,
  flows,
  games,
  gans,
  maps,
  movers,
  networks,
  plots,
  quality,
  report,
  run,
  tables,
  training,
)
from jaxgen import fields
from jaxgen.training import state, step


def prepare(config, data, script=edm):
  """(configuration, model, turns) of a script's training on this data."""
  config = build.resolve(config, data)
  method = script.make_method(config, data)
  loss = script.make_loss(config, method, data)
  return config, method, training.make_turns(config, loss)


def step_call(config, data, init):
  """(() -> the loss of one more step on one batch, model, parameters)."""
  config, method, turns = prepare(config, data)
  params = init(method.model, data.shape)
  batch = data.batches(jax.random.key(0), config.batch_size)(0)
  batches = {"model": jax.device_put(batch)}
  train_step = step.make_train_step(turns)
  carry = [state.init(jax.random.key(1), {"model": params}, turns)]

  def call():
    carry[0], metrics = train_step(carry[0], batches)
    return metrics["loss"]

  return call, method, params


def labelled(run_dir):
  """A model of labelled images: its field, (seed, number) -> states at 80.

  A field is a function of x and t alone, so a second channel holds the label:
  it stands still (its velocity and noise are 0, its data itself).
  """
  config, data, method = drawing.read(run_dir)
  params = averages.load(config, method)

  def estimate(x, t):
    image, label = x[..., :1], x[..., 1:]
    number = jnp.round(label.mean()).astype(int)
    at = build.make_field(method, params, number)(image, t)
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

  return fields.Field(estimate, method.path), draw
