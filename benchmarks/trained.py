"""What benchmarks need from experiments: scripts, and the parts of a training.

Nothing else below benchmarks/ imports experiments, so a new name there is a new
line here.
"""

import jax

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
  movers,
  networks,
  plots,
  quality,
  run,
  tables,
  training,
)
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
