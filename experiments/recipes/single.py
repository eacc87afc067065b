"""The Experiment of one network that is trained on examples and labels."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments import experiment
from experiments.lib import checks, datasets, samples
from jaxgen.data import loaders
from jaxgen.training import step

COUNTS = "num_steps batch_size log_every save_every snapshot_every"
COUNTS += " samples_every keep"


def experiment_of(
  config: Any,
  data: datasets.Data,
  init: Callable,
  turns: tuple[step.Turn, ...],
  batches: Callable | None = None,
  /,
  **more: Any,
) -> experiment.Experiment:
  """The Experiment of one player, model.

  Args:
    config: the script's settings.
    data: the dataset.
    init: key -> initial parameters.
    turns: the game, such as training.one_player(config, loss_fn).
    batches: (data, key) -> (step -> batch); None for examples and labels.
    more: other fields of the Experiment; its data are `shown` by default.
  """
  if batches is None:
    batches = lambda data, key: data.batches(key, config.batch_size)

  def for_model(data, key):
    batch_fn = batches(data, key)
    return lambda number: {"model": batch_fn(number)}

  return experiment.Experiment(
    config,
    more.pop("data", shown(config, data)),
    players=lambda key: {"model": init(key)},
    turns=turns,
    batches=functools.partial(for_model, data),
    **dict(
      sampled=("model",),
      validation=lambda key: for_model(held_out(data), key),
    )
    | more,
  )


def shown(config: Any, data: datasets.Data) -> datasets.Data:
  """The data as the model knows them: without labels if it drops them all."""
  ignored = getattr(config, "label_dropout", 0) == 1
  return samples.without_labels(data) if ignored else data


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


def check(config: Any, *counts: str) -> None:
  """Checks the groups Run, Optimizer, Averages and Logging, and more counts.

  Raises:
    ValueError: an invalid setting.
  """
  checks.known(config)
  checks.at_least(config, **dict.fromkeys((*COUNTS.split(), *counts), 1))
  checks.positive(config, "learning_rate", "clip_norm")
  checks.fraction(config, "adam_b2")
  checks.nonnegative(config, "weight_decay")
  if config.accumulate < 1 or config.batch_size % config.accumulate:
    raise ValueError(
      "accumulate, batch_size: expected a divisor of the batch size, got"
      f" {config.accumulate} for {config.batch_size}"
    )
  dropped = getattr(config, "label_dropout", 0)
  if not 0 <= dropped <= 1:
    raise ValueError(f"label_dropout: expected 0 to 1, got {dropped}")
  if not 0 <= config.warmup_steps < config.num_steps:
    raise ValueError(
      "warmup_steps, num_steps: expected 0 <= warmup_steps < num_steps, got"
      f" {config.warmup_steps} and {config.num_steps}"
    )
