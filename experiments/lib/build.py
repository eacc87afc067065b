"""From a configuration to functions: the one place where names are looked up.

A configuration is any dataclass with the settings that are read here by name
(experiments.edm.Config has them all).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import datasets, networks, settings, tables
from experiments.lib import run as runs
from jaxgen import fields, paths, predictions, samplers
from jaxgen.training import sharding

COUNTS = (
  "num_steps",
  "batch_size",
  "sample_steps",
  "log_every",
  "save_every",
  "snapshot_every",
  "samples_every",
  "keep",
)
POSITIVE = ("learning_rate", "clip_norm", "sigma_data", "level_std")


class Method(NamedTuple):
  """What the configuration says, as objects.

  Attributes:
    model: a Flax module of one example.
    input_shape: what it takes, [*D] but where `predict` gives it more.
    path, draw, prediction, weight: of training; draw is (key, shape) -> t.
    predict: net (scaled x, conditioning) -> [*D] to predict_fn (x, t) -> what
      prediction says.
    to_field: predict_fn -> a field on sample_path.
    sample_path, solver, times: of sampling, times [N + 1] falling.
    start: key -> the state at times[0], [*D].
    finish: (field, state at times[-1]) -> data, [*D].
    num_calls: of the network, for one sample.
    scales: what the state at each time is multiplied with to be seen, [N + 1].
    marks: what the times are called in pictures, and their values [N + 1].
    scale: the data's standard deviation.
    learned: the estimate that is learned: velocity, score ...
    exact: the exact field on sample_path, of laws that have one.
    from_noise: whether the state at times[0] is noise.
  """

  model: Any
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
  exact: fields.Field | None = None
  from_noise: bool = True
  player = "model"  # whose parameters are sampled

  def players(self, key: jax.Array) -> dict[str, Any]:
    """{player: parameters} that training starts from."""
    return {"model": init(self, key)}

  def sample(self, params: Any, key: jax.Array, label: Any) -> tuple[Any, Any]:
    """The states at all times [T, *D] and the data [*D] of one key."""
    start_key, solver_key = jax.random.split(key)
    field = make_field(self, params, label)
    states = samplers.trajectory(
      self.solver, field, self.start(start_key), self.times, solver_key
    )
    return states, self.finish(field, states[-1])


def load_data(config: Any) -> datasets.Data:
  """The data set of a configuration."""
  with settings.naming(config, "data", size="image_size", flip="flip, data"):
    return datasets.load_data(
      config.data,
      image_size=config.image_size,
      flip=config.flip,
      data_dir=config.data_dir,
    )


def resolve(config: Any, data: datasets.Data) -> Any:
  """The configuration with sigma_data measured where it was left open.

  Raises:
    ValueError: data that do not differ.
  """
  if getattr(config, "sigma_data", 0.0) is not None:
    return config
  std = round(data.std, 3)
  if not std > 0:
    raise ValueError(
      f"data: expected examples that differ, got {config.data} of standard"
      f" deviation {data.std:.3g}; give sigma_data"
    )
  return dataclasses.replace(config, sigma_data=std)


def method(config: Any, data: datasets.Data) -> Method:
  """Looks every name up; refuses what cannot be, before anything is written.

  Of a Gaussian path, from standard noise to data.
  """
  _check(config)
  path = make_path(config, config.path, "path")
  row = tables.lookup(tables.PREDICTIONS, config.prediction, "prediction")
  prediction = row(config.sigma_data)
  name = config.path if config.sample_path is None else config.sample_path
  sample_path = make_path(config, name, "sample_path")
  draw, weight = _draw_and_weight(config, path, prediction)
  grid = tables.lookup(tables.GRIDS, config.grid, "grid")
  flag = "path" if config.sample_path is None else "sample_path"
  ends = {name: f"{flag}, {name}" for name in _ends(config)}
  with settings.naming(config, num_steps="sample_steps", **ends):
    times = grid(sample_path, config.sample_steps, **_ends(config))
  solver = tables.lookup(tables.SOLVERS, config.solver, "solver")(config.churn)
  spread = predictions.input_scale(sample_path, times, config.sigma_data)

  known = data.law is not None and data.law.mixture is not None

  def to_field(predict_fn):
    field = fields.from_prediction(predict_fn, path, prediction)
    moved = sample_path is not path
    return fields.on_path(field, sample_path) if moved else field

  return Method(
    model=networks.make(config, data),
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
    exact=data.law.mixture.field(sample_path) if known else None,
  )


def _ends(config):
  return dict(ratio_min=config.ratio_min, ratio_max=config.ratio_max)


def _draw_and_weight(config, path, prediction):
  """How t is drawn, (key, shape) -> t, and weighted."""
  draw = tables.lookup(tables.DRAWS, config.draw, "draw")
  values = _ends(config)
  ends = {name: f"path, {name}" for name in values}
  if draw.settings:
    values |= dict(mean=config.level_mean, std=config.level_std)
  make_weight, owner = tables.lookup(tables.WEIGHTS, config.weight, "weight")
  with settings.naming(config, mean="level_mean", std="level_std", **ends):
    density = draw.density(path, **values)
  weight = make_weight(path, config.sigma_data, density)
  if owner is not None:
    weight = predictions.reweight(weight, path, owner, prediction)
  sample_t = functools.partial(draw.sample, path=path, **values)
  return lambda key, shape: sample_t(key, shape=shape), weight


def _check(config):
  settings.known(config)
  runs.at_least(config, **dict.fromkeys(COUNTS, 1))
  runs.at_least(config, width=1, num_blocks=0, num_heads=1, patch=1)
  settings.positive(config, *POSITIVE)
  settings.share(config, "adam_b2", "dropout")
  # The linear path reaches every ratio, so this refuses only what none can.
  paths.linear().ends(config.ratio_min, config.ratio_max)
  if not math.isfinite(config.level_mean):
    raise ValueError(f"level_mean: expected finite, got {config.level_mean}")
  if not 0 <= config.churn < math.inf:
    raise ValueError(
      f"churn: expected a number of at least 0, got {config.churn}"
    )
  if not 0 <= config.label_dropout <= 1:
    raise ValueError(
      f"label_dropout: expected 0 to 1, got {config.label_dropout}"
    )
  if not 0 <= config.warmup_steps < config.num_steps:
    raise ValueError(
      "warmup_steps, num_steps: expected a warm-up of at least 0 steps that"
      f" ends before training does, got {config.warmup_steps} of"
      f" {config.num_steps}"
    )


def make_path(config: Any, name: str, flag: str) -> paths.Path:
  """The path of this name, over the configuration's noise ratios."""
  constructor = tables.lookup(tables.PATHS, name, flag)
  return constructor(config.ratio_min, config.ratio_max)


def init(method: Method, key: jax.Array) -> Any:
  """The parameters that training starts from."""
  return method.model.init(key, jnp.zeros(method.input_shape), jnp.zeros(()))


def make_field(method: Method, params: Any, label: Any) -> fields.Field:
  """The trained model of one label (None: of all) as a field."""
  net = lambda x, c: method.model.apply(params, x, c, label)
  return method.to_field(method.predict(net))


def make_sampler(method: Any) -> Callable:
  """(params, keys [N], labels [N]) -> (states [N, T, *D], data [N, *D]).

  A sample depends on its own key alone (keys of JAX's default kind, see
  jaxgen.keys); each device draws a share of them.

  Args:
    method: with `sample`, a Method or a game's.
  """
  many = jax.vmap(method.sample, in_axes=(None, 0, 0))
  return sharding.spread(many, sharding.mesh())
