"""A network, its Gaussian path and its sampler, from a script's settings.

experiments.edm, flow_matching, score_matching and benchmarks use this recipe.
`make` builds the parts from their names, `experiment_of` the Experiment.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import experiment
from experiments.lib import (
  checks,
  choices,
  datasets,
  training,
)
from experiments.recipes import guided, latents, levels, networks, single
from jaxgen import fields, paths, predictions, samplers


class Diffusion(NamedTuple):
  """The parts that the settings name.

  Attributes:
    net: a Flax module for one example.
    input_shape: shape of its input, [*D] unless `predict` widens it.
    path, draw, prediction, weight: parts of training; draw is (key, shape) ->
      t.
    predict: net, a function (scaled x, conditioning) -> [*D], -> predict_fn,
      (x, t) -> [*D] in the units of `prediction`.
    to_field: predict_fn -> a field on sample_path.
    sample_path, solver, times: parts of sampling; times [N + 1] decrease.
    start: key -> the state at times[0], [*D].
    finish: (field, state at times[-1]) -> data, [*D].
    num_calls: number of network calls per sample.
    scales: factors that make the states comparable in pictures, [N + 1].
    marks: name and values [N + 1] of the times in pictures.
    scale: standard deviation of the data.
    learned: name of the learned estimate, such as velocity or score.
    exact: the exact field on sample_path, or None if it is not known.
    between: (latent, latent, weight []) -> interpolated latent.
    guide: (this record, params, label) -> the field that is sampled.
  """

  net: Any
  input_shape: tuple[int, ...]
  path: paths.Path
  draw: Callable
  prediction: Any
  weight: Any
  predict: Callable
  to_field: Callable
  sample_path: paths.Path
  solver: samplers.Solver
  times: Any
  start: Callable
  finish: Callable
  num_calls: int
  scales: Any
  marks: tuple[str, Any]
  scale: float
  learned: str
  exact: fields.Field | None
  between: Callable
  guide: Callable

  def init(self, key: jax.Array) -> Any:
    """Initial parameters."""
    return self.net.init(key, jnp.zeros(self.input_shape), jnp.zeros(()))

  def field(self, params: Any, label: Any) -> fields.Field:
    """The trained model for one label (None: for all) as a field."""
    net = lambda x, c: _applied(self.net, params, x, c, label)
    return self.to_field(self.predict(net))

  def sample(self, params: Any, key: jax.Array, label: Any) -> tuple[Any, Any]:
    """The states at all times [T, *D] and the data [*D], for one key."""
    start_key, solver_key = jax.random.split(key)
    field = self.guide(self, params, label)
    states = samplers.trajectory(
      self.solver, field, self.start(start_key), self.times, solver_key
    )
    return states, self.finish(field, states[-1])

  def encode(self, params: Any, x: jax.Array, label: Any) -> jax.Array:
    """The latent: the state at t_max over sigma, from alpha x at t_min."""
    alpha, sigma = self._ends()
    return self._flow(params, self.times[::-1], alpha * x, label) / sigma

  def decode(self, params: Any, latent: jax.Array, label: Any) -> jax.Array:
    """The inverse of `encode`, on the same grid."""
    alpha, sigma = self._ends()
    return self._flow(params, self.times, sigma * latent, label) / alpha

  def _ends(self):
    path, times = self.sample_path, self.times
    with jax.ensure_compile_time_eval():
      return path.alpha(times[-1]), path.sigma(times[0])

  def _flow(self, params, times, x, label):
    key = jax.random.key(0)  # not used, as the solver is deterministic
    field = self.field(params, label)
    return samplers.integrate(self.solver, field, x, times, key)


@functools.partial(jax.jit, static_argnums=0, inline=True)
def _applied(net, params, x, c, label):
  """net.apply; a solver, which calls it several times, traces it once."""
  return net.apply(params, x, c, label)


def resolve(config: Any, data: datasets.Data) -> Any:
  """The settings, with sigma_data and attention filled in where they are None.

  Raises:
    ValueError: the data do not vary.
  """
  config = networks.resolve(config, data)
  if config.sigma_data is not None:
    return config
  checks.varied(config, data.std, "sigma_data", least=5e-4)
  return checks.replace(config, sigma_data=round(data.std, 3))


def make(config: Any, data: datasets.Data) -> Diffusion:
  """Validates the settings and builds the parts that they name.

  The path leads from standard noise to data.

  Raises:
    ValueError: no such name, or invalid settings.
  """
  _check(config)
  path = levels.make_path(config, config.path, "path")
  row = choices.lookup(choices.PREDICTIONS, config.prediction, "prediction")
  prediction = row(config.sigma_data)
  name = config.path if config.sample_path is None else config.sample_path
  sample_path = levels.make_path(config, name, "sample_path")
  draw, weight = levels.draw_and_weight(config, path, prediction)
  grid = choices.lookup(choices.GRIDS, config.grid, "grid")
  flag = "path" if config.sample_path is None else "sample_path"
  ends = {name: f"{flag}, {name}" for name in levels.ends(config)}
  with checks.naming(config, num_steps="sample_steps", **ends):
    times = grid(sample_path, config.sample_steps, **levels.ends(config))
  solver = choices.lookup(choices.SOLVERS, config.solver, "solver")
  solver = solver(config.churn)
  spread = predictions.input_scale(sample_path, times, config.sigma_data)
  mixture = data.mixture

  def to_field(predict_fn):
    field = fields.from_prediction(predict_fn, path, prediction)
    moved = sample_path is not path
    return fields.on_path(field, sample_path) if moved else field

  return Diffusion(
    net=networks.make(config, data),
    input_shape=data.shape,
    path=path,
    draw=draw,
    prediction=prediction,
    weight=weight,
    predict=lambda net: predictions.preconditioned(
      net, path, config.sigma_data
    )[0],
    to_field=to_field,
    sample_path=sample_path,
    solver=solver,
    times=times,
    start=lambda key: (
      sample_path.sigma(times[0]) * jax.random.normal(key, data.shape)
    ),
    finish=lambda field, x: field(x, times[-1]).data,
    num_calls=solver.num_calls(config.sample_steps) + 1,
    scales=np.asarray(config.sigma_data / spread),
    marks=("noise ratio", np.asarray(sample_path.ratio(times))),
    scale=config.sigma_data,
    learned="velocity",
    exact=None if mixture is None else mixture.field(sample_path),
    between=latents.spherical,
    guide=guided.make(config, data),
  )


def experiment_of(
  config: Any,
  data: datasets.Data,
  model: Diffusion,
  loss_fn: Callable,
  batches: Callable | None = None,
  **more: Any,
) -> experiment.Experiment:
  """The Experiment of one network and one loss.

  Args:
    config: the script's settings.
    data: the dataset.
    model: the parts from `make`, possibly changed by the script.
    loss_fn: (params, key, batch) -> (loss [], metrics).
    batches: (data, key) -> (step -> batch); None for examples and labels.
    more: other fields of the Experiment.
  """
  # At the ends of a path the noise ratio may be 0 or infinite.
  ratios = np.asarray(model.sample_path.ratio(model.times)).clip(1e-9, 1e9)
  drawn = experiment.Vectors(
    model.learned, model.times, ratios, model.scale, model.exact
  )
  return single.experiment_of(
    config,
    data,
    model.init,
    training.one_player(config, loss_fn),
    batches,
    **dict(
      sample=lambda p, extras, *rest: model.sample(p["model"], *rest),
      num_calls=guided.num_calls(config, model),
      times=experiment.Times(*model.marks, model.scales),
      encode=lambda p, extras, *rest: model.encode(p["model"], *rest),
      decode=lambda p, extras, *rest: model.decode(p["model"], *rest),
      between=model.between,
      field=lambda p, extras, label: model.field(p["model"], label),
      vectors=drawn if data.shape == (2,) else None,
      reads={} if config.guide is None else {"guide": config.guide},
    )
    | more,
  )


def _check(config):
  single.check(config, "sample_steps")
  checks.at_least(config, width=1, num_blocks=0, num_heads=1, patch=1)
  checks.positive(config, "sigma_data", "level_std")
  checks.fraction(config, "dropout")
  # Every ratio exists on the linear path: this rejects only invalid ratios.
  paths.linear().ends(config.ratio_min, config.ratio_max)
  checks.nonnegative(config, "churn")
