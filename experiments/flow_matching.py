"""Flow matching: from noise, or from one data set to another.

  python -m experiments.flow_matching digits --run-dir runs/flow
  python -m experiments.flow_matching pair --run-dir runs/pair --source moons
  python -m experiments.flow_matching zero-to-eight --run-dir runs/morph
  python -m experiments.flow_matching pair --run-dir runs/straight \
    --reflow runs/pair

t = 0 is data and t = 1 the source, paired by --coupling in the thread that
makes the batches. The flow is sampled from t = 1 down to 0, by the same solvers
as everything else: any of them where the source is noise, those that ask for
the velocity alone between data sets; with --interpolant, which learns the
denoiser too, also euler_maruyama.

Methods: Lipman et al. 2022, arXiv:2210.02747; Liu et al. 2022,
arXiv:2209.03003; Tong et al. 2023, arXiv:2302.00482; Albergo et al. 2023,
arXiv:2303.08797; Cheng and Schwing 2025, arXiv:2503.10636.
"""

import math

import jax.numpy as jnp
import numpy as np

from experiments.lib import build, datasets, flow_settings, flows, training
from experiments.lib import run as runs
from jaxgen import fields, samplers
from jaxgen.data import interpolants
from jaxgen.losses import flow_matching
from jaxgen.training import state

MODULE = "experiments.flow_matching"

Config = flow_settings.Config
PRESETS = flow_settings.PRESETS


def make_method(config: Config, data: datasets.Data) -> build.Method:
  """What the configuration says, as objects.

  Raises:
    ValueError: settings that do not go together, or no such name.
  """
  flows.check(config, data)
  source, bridge = flows.source(config, data), flows.make_bridge(config)
  base = build.method(config, data)
  coupled = flows.coupled(config)  # then no law is known in closed form
  if flows.from_noise(config):
    return base._replace(exact=None) if coupled else base
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
      # Twice the channels in, twice out: velocity and denoiser.
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
  # To the ends themselves, where the velocity is finite.
  times = base.times.at[0].set(path.t_max).at[-1].set(path.t_min)
  solver, calls = base.solver, base.solver.num_calls(config.sample_steps)
  finish = lambda field, x: x
  if config.interpolant and config.solver == "euler_maruyama":
    solver = samplers.euler_maruyama(lambda t: config.eps * bridge(t))
    times, calls = base.times, calls + 1
    finish = base.finish  # the mean of the data there
  exact, law = None, None if data.law is None else data.law.mixture
  if law is not None and source.mixture is not None:
    exact = interpolants.between(law, source.mixture, path, bridge)
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
    exact=None if coupled else exact,
    from_noise=False,
  )


def make_loss(config: Config, method: build.Method, data: datasets.Data):
  """(params, key, batch) -> (loss, metrics), over a batch of pairs."""
  how = dict(path=method.path, bridge=flows.make_bridge(config))
  how |= dict(weight=method.weight)
  matching = flow_matching.flow_matching
  if config.interpolant:
    matching = flow_matching.stochastic_interpolant

  def loss(net, key, example, noise, t, source):
    return matching(method.predict(net), example, source, noise, t, **how)

  return training.batch_loss(config, method, data.num_classes, loss)


def run(config: Config) -> state.State:
  """Trains, samples and draws; resumes the run directory if it has begun."""
  return training.run(
    MODULE,
    config,
    make_method,
    training.one_player(make_loss),
    training.for_model(flows.batches),
    flows.pictures,
  )


if __name__ == "__main__":
  runs.main(MODULE, PRESETS, run)
