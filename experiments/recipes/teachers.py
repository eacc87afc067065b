"""What a flow map learns from, and is compared with: a flow from noise.

A teacher's field is moved to the map's path, so that a run on any path will do,
and the same noise gives the same trajectory.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.experiment import Trained
from experiments.lib import averages, checks, datasets, samples
from experiments.recipes import flow_maps, levels
from jaxgen import fields, paths, samplers
from jaxgen import flow_maps as maps
from jaxgen.training import sharding

CHUNK = 500  # trajectories that are computed together
CALLS = (1, 2, 4)
NUM_TIMES = 12  # times of the picture of errors
NUM_STEPS = 4  # steps of the reference between two of them


def read(config: Any, data: datasets.Data, path: paths.Path) -> Callable | None:
  """label -> the field of the run --teacher on a path; None without a teacher.

  Raises:
    ValueError, OSError: it cannot be read, has no field on a Gaussian path, or
      was trained on other data or noise ratios.
  """
  if config.teacher is None:
    return None
  with checks.naming(config, "teacher"):
    ex = samples.read(config.teacher)
    if (name := getattr(ex.config, "data", None)) != config.data:
      raise ValueError(
        f"teacher, data: expected a run on {config.data}, got"
        f" {config.teacher} on {name}"
      )
    if ex.data.shape != data.shape:
      raise ValueError(
        f"teacher, data: expected a run on examples {list(data.shape)}, got"
        f" {config.teacher} on {list(ex.data.shape)}"
      )
    known = ex.data.num_classes
    learned = getattr(ex.config, "label_dropout", 0)
    if known and config.label_dropout and not learned:
      raise ValueError(
        "label_dropout, teacher: expected 0, as the teacher has not learned the"
        f" null label, got {config.label_dropout:g}"
      )
    trained = averages.load(ex)
    label = jnp.zeros((), "int32") if known else None
    source = None if ex.field is None else ex.field(*trained, label).path
    if source is None:
      raise ValueError(
        f"expected a run with a flow from noise, got {config.teacher}"
      )
  names = "ratio_min", "ratio_max"
  with checks.naming(config, **{name: f"teacher, {name}" for name in names}):
    source.ends(**levels.ends(config))
  return lambda label: fields.on_path(
    ex.field(*trained, label if known else None), path
  )


def state_times(config: Any, model: flow_maps.Model) -> jax.Array:
  """The times of the states that pairs and trajectories keep, [T]."""
  times = _times(config, model)
  return times[jnp.array([0, -1])] if config.method == "pairs" else times


def _times(config, model):
  limits = levels.ends(config)
  return samplers.grids.karras(model.path, config.teacher_steps, **limits)


def trajectories(
  config: Any,
  model: flow_maps.Model,
  field: Callable,
  num_classes: int,
  key: jax.Array,
) -> tuple[np.ndarray, np.ndarray | None]:
  """States [N, T, *D] of a teacher's flow, and their labels, in turn.

  Args:
    config: the settings.
    model: the map's parts.
    field: label -> the teacher's field on the map's path.
    num_classes: 0 without labels.
    key: typed key, of the noise.
  """
  number, times = config.num_pairs, _times(config, model)
  solver = samplers.dpmpp_2m()

  def one(_, key, label):
    start_key, solver_key = jax.random.split(key)
    states = samplers.trajectory(
      solver, field(label), model.start(start_key), times, solver_key
    )
    return states[jnp.array([0, -1])] if config.method == "pairs" else states

  many = sharding.spread(jax.vmap(one, (None, 0, 0)), sharding.mesh())
  labels, parts = None, []
  if num_classes:
    labels = np.arange(number, dtype=np.int32) % num_classes
  for first in range(0, number, CHUNK):
    rows = np.arange(first, first + CHUNK)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(rows)
    given = None if labels is None else labels[rows % number]
    parts.append(np.asarray(many((), keys, given)))
  return np.concatenate(parts)[:number], labels


def draw_pairs(config: Any, key: jax.Array, n: int, number: int) -> jax.Array:
  """Positions (i, j), i < j, of two of a trajectory's states, [n, 2].

  They are uniform, but for a fraction config.ends of the i that are 0, and of
  the j that are the last.
  """
  i_key, j_key, first_key, last_key = jax.random.split(key, 4)
  chosen = lambda key: jax.random.uniform(key, (n,)) < config.ends
  i = jax.random.randint(i_key, (n,), 0, number - 1)
  i = jnp.where(chosen(first_key), 0, i)
  j = jax.random.randint(j_key, (n,), i + 1, number)
  return jnp.stack([i, jnp.where(chosen(last_key), number - 1, j)], -1)


def by_calls(
  config: Any,
  model: flow_maps.Model,
  field: Callable | None,
  found: Trained,
  labels: Any,
) -> dict[str, np.ndarray]:
  """{name: samples [N, *D]} of the same noise by 1, 2 and 4 calls of the map,
  and of the teacher if there is one; a map of pairs has one call.
  """
  starts, params = found.states[:, 0], found.params["model"]
  limits = levels.ends(config)

  def sampled(solver, field_of, times):
    def one(x, label, key):
      field = field_of(label)
      return model.finish(samplers.integrate(solver, field, x, times, key))

    keys = jax.random.split(jax.random.key(0), len(starts))
    return np.asarray(jax.jit(jax.vmap(one))(starts, labels, keys))

  rows = {}
  for calls in CALLS[: 1 if config.method == "pairs" else None]:
    times = samplers.grids.uniform(model.path, calls, **limits)
    name = f"{calls} call" + "s" * (calls > 1)
    rows[name] = sampled(
      model.solver, lambda label: model.map(params, label), times
    )
  if field is not None:
    rows["teacher"] = sampled(samplers.heun(), field, _times(config, model))
  return rows


def errors(
  config: Any,
  model: flow_maps.Model,
  field: Callable | None,
  found: Trained,
  labels: Any,
) -> tuple[np.ndarray, np.ndarray]:
  """(times [T], root mean square error of X(x_t, t, s) [T, T], by t and s).

  The states are those of the teacher's flow, or of the map's own velocity
  without a teacher, by Heun's method. Above s = t, where the map is not
  trained, there is NaN.
  """
  starts, params = found.states[:, 0], found.params["model"]
  limits = levels.ends(config)
  fine = samplers.grids.uniform(
    model.path, NUM_STEPS * (NUM_TIMES - 1), **limits
  )
  times = fine[::NUM_STEPS]
  if field is None:
    field = lambda label: model.field(params, label)

  def one(x, label):
    states = samplers.trajectory(
      samplers.heun(), field(label), x, fine, jax.random.key(0)
    )[::NUM_STEPS]
    u = model.map(params, label)
    jumps = jax.vmap(
      jax.vmap(lambda x, t, s: maps.jump(u, x, t, s), (None, None, 0)),
      (0, 0, None),
    )
    return jumps(states, times, times) - states[None]

  off = np.asarray(jax.jit(jax.vmap(one))(starts, labels))
  size = np.sqrt((off**2).reshape(*off.shape[:3], -1).mean((0, 3)))
  return np.asarray(times), np.where(np.tri(NUM_TIMES).T > 0, size, np.nan)
