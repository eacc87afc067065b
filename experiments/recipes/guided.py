"""The guided field of a run, from its settings, and its network calls."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import averages, checks, datasets, samples
from jaxgen import fields, guidance, samplers


def make(config: Any, data: datasets.Data) -> Callable:
  """(recipes.diffusion.Diffusion, params, label) -> the field to sample.

  Without guidance it is the model's own field.

  Raises:
    ValueError, OSError: guidance that the run has not learned, or a guide that
      cannot be read.
  """
  _check(config, data)
  if config.guidance == 1:
    return lambda model, params, label: model.field(params, label)
  other = None if config.guide is None else _guide(config, data)

  def guide(model, params, label):
    field = model.field(params, label)
    if other is not None:
      null = other(label)
      if field.path is not None:
        null = fields.on_path(null, field.path)
    elif label is None:
      raise ValueError(
        "label, guidance: expected a class, as guidance moves away from the"
        " null label, got none"
      )
    else:
      null = model.field(params, None)
    with checks.naming(config, interval="guidance_interval"):
      return guidance.classifier_free(
        field, null, config.guidance, config.guidance_interval
      )

  return guide


def num_calls(config: Any, model: Any) -> int:
  """Network calls per sample: two wherever both fields are evaluated."""
  if config.guidance in (0, 1):
    return model.num_calls
  if config.guidance_interval is None:
    return 2 * model.num_calls
  low, high = config.guidance_interval
  times, path = model.times, model.sample_path
  ends = model.num_calls - model.solver.num_calls(len(times) - 1)
  seen = [*_evaluated(model.solver, path, times), *times[-1:].repeat(ends)]
  ratios = np.asarray(path.ratio(jnp.stack(seen)))
  return model.num_calls + int(np.sum((ratios > low) & (ratios <= high)))


def _evaluated(solver, path, times):
  """The times at which a solver evaluates its field."""
  seen = []

  def estimate(x, t):
    jax.debug.callback(seen.append, t)
    one = jnp.ones_like(x)
    return fields.Estimate(one, one, one, one)

  field, key = fields.Field(estimate, path), jax.random.key(0)
  run = lambda x: samplers.integrate(solver, field, x, times, key)
  jax.block_until_ready(jax.jit(run)(jnp.ones(1)))
  jax.effects_barrier()
  return seen


def _guide(config, data):
  """label -> the field of another run, by its first average."""
  with checks.naming(config, "guide"):
    ex = samples.read(config.guide)
    if ex.field is None or ex.data.shape != data.shape:
      raise ValueError(
        f"expected a run with a field of examples {list(data.shape)}, got"
        f" {config.guide}"
      )
    trained = averages.load(ex)
  known = ex.data.num_classes
  return lambda label: ex.field(*trained, label if known else None)


def _check(config, data):
  weight, interval = config.guidance, config.guidance_interval
  checks.nonnegative(config, "guidance")
  if interval is not None and not 0 <= interval[0] < interval[1]:
    raise ValueError(
      "guidance_interval: expected 0 <= low < high, got"
      f" {interval[0]:g} {interval[1]:g}"
    )
  if weight == 1 or config.guide is not None:
    return
  if not (data.num_classes and 0 < config.label_dropout < 1):
    raise ValueError(
      "guidance, label_dropout: expected a run on labelled data with a"
      " label_dropout between 0 and 1, which learns the null label, or a guide,"
      f" got label_dropout {config.label_dropout:g}"
    )
