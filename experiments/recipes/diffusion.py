"""A network, its Gaussian path and its sampler, from a script's settings.

experiments.edm, flow_matching, score_matching and benchmarks use this recipe.
`make` builds the parts from their names, `experiment_of` the Experiment.
"""

import functools
import math
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
  samples,
  training,
)
from experiments.recipes import guided, latents, levels, networks
from jaxgen import fields, paths, predictions, samplers
from jaxgen.data import loaders

COUNTS = "num_steps batch_size sample_steps log_every save_every snapshot_every"
COUNTS += " samples_every keep"
POSITIVE = ("learning_rate", "clip_norm", "sigma_data", "level_std")


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
  std = round(data.std, 3)
  if not std > 0:
    raise ValueError(
      f"data: expected examples that differ, got {config.data} with standard"
      f" deviation {data.std:.3g}; give sigma_data"
    )
  return checks.replace(config, sigma_data=std)


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
  if batches is None:
    batches = lambda data, key: data.batches(key, config.batch_size)

  def for_model(data, key):
    batch_fn = batches(data, key)
    return lambda number: {"model": batch_fn(number)}

  # At the ends of a path the noise ratio may be 0 or infinite.
  ratios = np.asarray(model.sample_path.ratio(model.times)).clip(1e-9, 1e9)
  shown = data if config.label_dropout < 1 else samples.without_labels(data)
  drawn = experiment.Vectors(
    model.learned, model.times, ratios, model.scale, model.exact
  )
  return experiment.Experiment(
    config,
    shown,
    players=lambda key: {"model": model.init(key)},
    turns=training.one_player(config, loss_fn),
    batches=functools.partial(for_model, data),
    sampled=("model",),
    sample=lambda p, extras, *rest: model.sample(p["model"], *rest),
    num_calls=guided.num_calls(config, model),
    times=experiment.Times(*model.marks, model.scales),
    encode=lambda p, extras, *rest: model.encode(p["model"], *rest),
    decode=lambda p, extras, *rest: model.decode(p["model"], *rest),
    between=model.between,
    field=lambda p, extras, label: model.field(p["model"], label),
    vectors=drawn if data.shape == (2,) else None,
    reads={} if config.guide is None else {"guide": config.guide},
    **dict(validation=lambda key: for_model(held_out(data), key)) | more,
  )


def held_out(data: datasets.Data) -> datasets.Data:
  """Data whose batches are those of validation, or new samples."""
  if not data.is_set:
    return data
  batches = lambda key, size: loaders.batches(
    data.split("validation"), key, size
  )
  return data._replace(batches=batches)


def drop_labels(
  config: Any, num_classes: int, key: jax.Array, labels: Any
) -> Any:
  """Labels [B], a fraction label_dropout of them replaced by the null label.

  The null label is num_classes. Labels of None stay None.
  """
  if labels is None or not config.label_dropout:
    return labels
  drop = jax.random.bernoulli(key, config.label_dropout, labels.shape)
  return jnp.where(drop, num_classes, labels)


def _check(config):
  checks.known(config)
  checks.at_least(config, **dict.fromkeys(COUNTS.split(), 1))
  checks.at_least(config, width=1, num_blocks=0, num_heads=1, patch=1)
  checks.positive(config, *POSITIVE)
  checks.fraction(config, "adam_b2", "dropout")
  # Every ratio exists on the linear path: this rejects only invalid ratios.
  paths.linear().ends(config.ratio_min, config.ratio_max)
  if not math.isfinite(config.level_mean):
    raise ValueError(f"level_mean: expected finite, got {config.level_mean}")
  checks.nonnegative(config, "churn", "weight_decay")
  if config.accumulate < 1 or config.batch_size % config.accumulate:
    raise ValueError(
      "accumulate, batch_size: expected a divisor of the batch size, got"
      f" {config.accumulate} for {config.batch_size}"
    )
  if not 0 <= config.label_dropout <= 1:
    raise ValueError(
      f"label_dropout: expected 0 to 1, got {config.label_dropout}"
    )
  if not 0 <= config.warmup_steps < config.num_steps:
    raise ValueError(
      "warmup_steps, num_steps: expected 0 <= warmup_steps < num_steps, got"
      f" {config.warmup_steps} and {config.num_steps}"
    )
