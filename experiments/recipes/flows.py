"""A velocity field between two datasets, based on recipes.diffusion.

t = 0 is data and t = 1 the source. If the source is noise and there is no
bridge, the flow is that of a Gaussian path, and the model is that of
recipes.diffusion.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.lib import choices, datasets
from experiments.recipes import diffusion, latents, levels
from jaxgen import fields, samplers
from jaxgen.data import interpolants
from jaxgen.losses import flow_matching


def from_noise(config):
  """Whether the flow is that of a Gaussian path."""
  return config.source == "gaussian" and config.bridge == "none"


def coupled(config):
  """Whether data and source are not sampled independently."""
  return config.reflow is not None or config.coupling != "independent"


def make_bridge(config: Any) -> flow_matching.Bridge:
  """gamma, t -> []."""
  make = choices.lookup(choices.BRIDGES, config.bridge, "bridge")
  path = levels.make_path(config, config.path, "path")
  return make(config.bridge_std, path.t_max)


def make(
  config: Any, data: datasets.Data, source: datasets.Data
) -> diffusion.Diffusion:
  """The model of recipes.diffusion, with a velocity between two datasets."""
  base, bridge = diffusion.make(config, data), make_bridge(config)
  if from_noise(config):  # the exact flow is not known for coupled pairs
    return base._replace(exact=None) if coupled(config) else base
  path = base.path
  spread = lambda t: jnp.sqrt(
    (path.alpha(t) * config.sigma_data) ** 2
    + (path.sigma(t) * source.std) ** 2
    + bridge(t) ** 2
  )
  speed = math.hypot(config.sigma_data, source.std)

  def predict(net):
    def predict_fn(x, t):
      scaled = x / spread(t)
      if not config.interpolant:
        return speed * net(scaled, path.conditioning(t))
      # Twice the input and output channels: velocity and denoiser.
      both = net(jnp.concatenate([scaled, scaled], -1), path.conditioning(t))
      velocity, eta = jnp.split(both, 2, -1)
      return speed * velocity, eta

    return predict_fn

  def to_field(predict_fn):
    if config.interpolant:
      return fields.from_interpolant(predict_fn, bridge, path)
    return fields.from_velocity(predict_fn)

  shape = base.input_shape
  doubled = (*shape[:-1], 2 * shape[-1])
  # The grid includes the ends, where the velocity is finite.
  times = base.times.at[0].set(path.t_max).at[-1].set(path.t_min)
  solver, calls = base.solver, base.solver.num_calls(config.sample_steps)
  finish = lambda field, x: x
  if config.interpolant and config.solver == "euler_maruyama":
    solver = samplers.euler_maruyama(lambda t: config.eps * bridge(t))
    times, calls = base.times, calls + 1
    finish = base.finish  # the mean of the data given the last state
  exact = None
  if data.mixture is not None and source.mixture is not None:
    exact = interpolants.between(data.mixture, source.mixture, path, bridge)
  return base._replace(
    input_shape=doubled if config.interpolant else shape,
    predict=predict,
    to_field=to_field,
    solver=solver,
    times=times,
    start=source.draw,
    finish=finish,
    num_calls=calls,
    scales=np.ones(len(times)),
    marks=("t", np.asarray(times)),
    exact=None if coupled(config) else exact,
    between=latents.straight,
  )
