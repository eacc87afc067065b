"""From a configuration to functions: the one place where names are looked up.

A configuration is any dataclass with the settings that are read here by name
(experiments.edm.Config has them all).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.lib import run as runs
from experiments.lib import tables
from jaxgen import fields, paths, predictions, samplers
from jaxgen.models import dit, mlp, unet
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
  """What the configuration says, as objects."""

  model: Any  # a Flax module of one example
  path: paths.Path  # of training
  draw: Any  # (key, shape) -> t
  prediction: Any
  weight: Any
  sample_path: paths.Path
  solver: samplers.Solver
  times: Any  # [N + 1], on sample_path


def load_data(config: Any) -> tables.Data:
  """The data set of a configuration."""
  return tables.load_data(
    config.data,
    image_size=config.image_size,
    flip=config.flip,
    data_dir=config.data_dir,
  )


def resolve(config: Any, data: tables.Data) -> Any:
  """The configuration with sigma_data measured where it was left open."""
  if config.sigma_data is not None:
    return config
  return dataclasses.replace(config, sigma_data=round(data.std, 3))


def method(config: Any, data: tables.Data) -> Method:
  """Looks every name up; refuses what cannot be, before anything is written."""
  _check(config)
  path = make_path(config, config.path, "path")
  row = tables.lookup(tables.PREDICTIONS, config.prediction, "prediction")
  prediction = row(config.sigma_data)
  ends = dict(ratio_min=config.ratio_min, ratio_max=config.ratio_max)
  grid = tables.lookup(tables.GRIDS, config.grid, "grid")
  name = config.path if config.sample_path is None else config.sample_path
  sample_path = make_path(config, name, "sample_path")
  times = grid(sample_path, config.sample_steps, **ends)
  draw = tables.lookup(tables.DRAWS, config.draw, "draw")
  settings = ends
  if draw.settings:
    settings = ends | dict(mean=config.level_mean, std=config.level_std)
  make_weight, owner = tables.lookup(tables.WEIGHTS, config.weight, "weight")
  weight = make_weight(path, config.sigma_data, draw.density(path, **settings))
  if owner is not None:
    weight = predictions.reweight(weight, path, owner, prediction)
  solver = tables.lookup(tables.SOLVERS, config.solver, "solver")(config.churn)
  sample_t = functools.partial(draw.sample, path=path, **settings)
  return Method(
    model=make_model(config, data),
    path=path,
    draw=lambda key, shape: sample_t(key, shape=shape),
    prediction=prediction,
    weight=weight,
    sample_path=sample_path,
    solver=solver,
    times=times,
  )


def _check(config):
  runs.at_least(config, **dict.fromkeys(COUNTS, 1))
  for name in POSITIVE:
    if not 0 < getattr(config, name) < math.inf:
      raise ValueError(
        f"{name}: expected a positive number, got {getattr(config, name)}"
      )
  # The linear path reaches every ratio, so this refuses only what none can.
  paths.linear().ends(config.ratio_min, config.ratio_max)
  if not math.isfinite(config.level_mean):
    raise ValueError(f"level_mean: expected finite, got {config.level_mean}")
  if not config.churn >= 0:
    raise ValueError(f"churn: expected at least 0, got {config.churn}")
  if not 0 <= config.adam_b2 < 1:
    raise ValueError(f"adam_b2: expected 0 to below 1, got {config.adam_b2}")
  if not 0 <= config.label_dropout <= 1:
    raise ValueError(
      f"label_dropout: expected 0 to 1, got {config.label_dropout}"
    )
  if not 0 <= config.warmup_steps < config.num_steps:
    raise ValueError(
      f"warmup_steps: expected 0 to {config.num_steps - 1} (below num_steps),"
      f" got {config.warmup_steps}"
    )


def make_path(config: Any, name: str, flag: str) -> paths.Path:
  """The path of this name, over the configuration's noise ratios."""
  constructor = tables.lookup(tables.PATHS, name, flag)
  return constructor(config.ratio_min, config.ratio_max)


def make_model(config: Any, data: tables.Data) -> Any:
  """The configuration's network, of one example.

  Raises:
    ValueError: it is no network for this data, or for this machine.
  """
  points = len(data.shape) == 1
  name = config.model
  if name == "auto":
    name = "mlp" if points else "unet"
  shared = dict(
    num_classes=data.num_classes,
    dropout=config.dropout,
    dtype=jnp.dtype(config.dtype),
  )
  if name == "mlp":
    return mlp.MLP(features=(config.width,) * config.num_blocks, **shared)
  if points:
    raise ValueError(f"model: expected auto or mlp for points, got {name}")
  _check_attention(config)
  shared |= dict(
    width=config.width,
    num_heads=config.num_heads,
    implementation=config.attention_implementation,
  )
  if name == "dit":
    return dit.DiT(depth=config.num_blocks, patch=config.patch, **shared)
  groups = min(32, config.width // 4)
  if not groups or config.width % groups:
    raise ValueError(
      "width: expected a multiple of 4, of 32 above 128, for the U-Net's "
      f"groups of channels, got {config.width}"
    )
  return unet.UNet(
    multipliers=config.multipliers,
    num_blocks=config.num_blocks,
    attention=config.attention,
    skips=config.skips,
    num_groups=groups,
    embedding_width=2 * config.width,
    **shared,
  )


def _check_attention(config):
  if config.attention_implementation != "cudnn":
    return
  if jax.default_backend() != "gpu" or config.dtype != "bfloat16":
    raise ValueError(
      "attention_implementation: expected xla, as cudnn needs an NVIDIA GPU "
      f"and dtype bfloat16; got cudnn, {jax.default_backend()} and "
      f"{config.dtype}"
    )


def make_field(config: Any, method: Method, params, label) -> fields.Field:
  """The trained model of one label (None: of all) as a field."""
  net = lambda x, c: method.model.apply(params, x, c, label)
  predict_fn, _ = predictions.preconditioned(
    net, method.path, config.sigma_data
  )
  field = fields.from_prediction(predict_fn, method.path, method.prediction)
  if method.sample_path is method.path:
    return field
  return fields.on_path(field, method.sample_path)


def make_sampler(config: Any, method: Method, shape: tuple[int, ...]):
  """(params, keys [N], labels [N]) -> (states [N, T, *D], data [N, *D]).

  A sample depends on its own key alone; each device draws a share of them.
  """

  def one(params, key, label):
    noise_key, solver_key = jax.random.split(key)
    field = make_field(config, method, params, label)
    first, last = method.times[0], method.times[-1]
    noise = jax.random.normal(noise_key, shape)
    x = method.sample_path.sigma(first) * noise
    states = samplers.trajectory(
      method.solver, field, x, method.times, solver_key
    )
    return states, field(states[-1], last).data

  return sharding.spread(jax.vmap(one, in_axes=(None, 0, 0)), sharding.mesh())
