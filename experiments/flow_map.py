"""Flow maps: samples in one call or a few, from scratch or from a teacher.

  python -m experiments.flow_map digits --num-steps 7800 --run-dir runs/map
  python -m experiments.edm digits --run-dir runs/edm
  python -m experiments.flow_map digits --method trajectories \
    --teacher runs/edm --run-dir runs/few
  python -m experiments.evaluate runs/few --sample-steps 2

The map X(x, t, s) = x + (s - t) u(x, t, s) takes a state from time t to time s
of the flow, in one call of the network u. Without a teacher it learns from
data; with one, from the velocity of the run --teacher, whatever its path and
prediction, or (pairs, trajectories) from the states of its samples.
--sample-steps is the number of calls of a sample.

Methods: Geng et al. 2025, arXiv:2505.13447 and arXiv:2512.02012 (meanflow,
improved); Lu and Song 2024, arXiv:2410.11081 (scm); Boffi et al. 2025,
arXiv:2505.18825 (lagrangian); Frans et al. 2024, arXiv:2410.12557 (shortcut);
Song et al. 2023, arXiv:2303.01469 (consistency); Luhman and Luhman 2021,
arXiv:2101.02388 (pairs).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from experiments.experiment import Experiment, Times
from experiments.lib import (
  averages,
  checks,
  choices,
  command_line,
  datasets,
  training,
)
from experiments.pictures import sheets, two_times
from experiments.recipes import diffusion, presets, single, teachers
from experiments.recipes import flow_maps as recipe
from jaxgen import flow_maps
from jaxgen.data import loaders
from jaxgen.losses import flow_maps as losses
from jaxgen.training import state, step


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Optimizer,
  settings.Devices,
  settings.Network,
  settings.Noise,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  method: Literal[
    "meanflow",
    "improved",
    "scm",
    "lagrangian",
    "shortcut",
    "consistency",
    "pairs",
    "trajectories",
  ] = "shortcut"
  """What the map of an example with s < t is compared with; scm and consistency
  only learn maps to the data, pairs only that from noise to data."""
  teacher: str | None = None
  """Run directory of a flow from noise to the same data, on any path; None
  learns from the data alone."""
  instant: float | None = None
  """Fraction of a batch with s = t, whose loss is flow matching, from 0 to
  below 1; None is .5, or 0 for scm, consistency, pairs and trajectories."""
  ends: float = 0.25
  """Fraction of the maps that start at the first time, and of those that end at
  the last, from 0 to 1."""
  scale: Literal["one", "huber", "adaptive", "normalised"] | None = None
  """Weight of a squared error q: 1, 1 / sqrt(q), 1 / q or 1 / (.1 + sqrt(q));
  None is the method's: adaptive for meanflow and improved, normalised for scm,
  huber for consistency and one for the others."""
  gap: Literal["halved", "grid"] = "halved"
  """Second time of consistency: a half of the way, halved at every stage (ECT),
  or the next time of a grid of 10 steps, doubled at every stage (iCT)."""
  stages: int = 8
  """Number of stages of consistency in training, at least 1."""
  tangent_warmup: int = 0
  """Number of steps over which meanflow, improved and scm raise the derivative
  from 0."""
  num_pairs: int = 20_000
  """Number of samples of the teacher that pairs and trajectories use."""
  teacher_steps: int = 18
  """Number of steps of these samples, by dpmpp_2m."""

  path: Literal["linear", "trigonometric"] = "linear"
  """Path x_t = alpha(t) data + sigma(t) noise."""
  prediction: Literal["velocity"] = "velocity"
  """What the network predicts: the mean velocity from t to s."""
  level_std: float = 1.4
  """Standard deviation of log(sigma / alpha), positive."""
  max_frequency: float = 4.0
  """Highest angular frequency of the time embedding, at least 1; the network's
  derivative in time grows with it."""
  solver: choices.MapSolverName | None = None
  """Solver: jump_map follows the grid; renoised jumps to its end from every
  time, with new noise in between. None is renoised for scm and consistency."""
  grid: choices.GridName = "uniform"
  """Time grid of sampling."""
  sample_steps: int = 1
  """Number of sampling steps, each one network call."""


_SMOKE = presets.SMOKE | dict(sample_steps=2)
PRESETS = {
  "smoke": (
    "Eight Gaussians in seconds: runs all code.",
    Config(
      run_dir="runs/smoke-map",
      data="eight_gaussians",
      width=16,
      num_blocks=1,
      **_SMOKE,
    ),
  ),
  "toy": (
    "Eight Gaussians, or another distribution on the plane by --data.",
    Config(run_dir="runs/map-toy", **presets.POINTS),
  ),
  "digits": (
    "Class-conditional digits: three to six minutes on two CPU cores.",
    Config(run_dir="runs/map-digits"),
  ),
  "photos": (
    "32 x 32 crops of two photographs: twenty minutes on two cores.",
    Config(run_dir="runs/map-photos", **presets.PHOTOS),
  ),
}

SCALES = {
  "one": jnp.ones_like,
  "huber": losses.adaptive(power=0.5),
  "adaptive": losses.adaptive(),
  "normalised": losses.normalised(),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  data = datasets.load(config)
  config = diffusion.resolve(config, data)
  config = recipe.resolve(config)
  how = config.solver, config.grid, config.sample_steps
  model = recipe.make(config, data, *how)
  # Read when training begins: samples of a run do not need its teacher.
  teacher = functools.cache(lambda: teachers.read(config, data, model.path))
  more: dict = {}
  if config.instant > 0:  # u(x, t, t) is trained
    more["field"] = lambda p, extras, label: model.field(p["model"], label)
  if config.teacher is not None:
    more["learns_from"] = {"teacher": config.teacher}
  if config.method in recipe.OF_STATES:
    loss_fn, more["validation"] = make_state_loss(config, model), None
  else:
    loss_fn = make_loss(config, model, data.num_classes, teacher)
  turn = step.Turn(
    "model",
    loss_fn,
    training.adam(config),
    averages=averages.rules(config),
    accumulate=config.accumulate,
  )
  return single.experiment_of(
    config,
    data,
    model.init,
    (turn,),
    lambda data, key: make_batches(config, model, data, teacher, key),
    sample=lambda p, extras, *rest: model.sample(p["model"], *rest),
    num_calls=config.sample_steps,
    times=Times("t", np.asarray(model.times), np.ones(len(model.times))),
    pictures=make_pictures(config, model, single.shown(config, data), teacher),
    **more,
  )


def make_problem(config: Config) -> Callable:
  """(u, point, teacher's velocity or None, step) -> the regression problem of
  one example with s < t.
  """

  def problem(u, at, teacher_fn, number):
    x_t, t, s, velocity = at.x_t, at.t, at.s, at.velocity
    if config.method in ("meanflow", "improved", "scm"):
      tangent = u(x_t, t, t) if config.method == "improved" else None
      warmup = jnp.minimum((number + 1) / (config.tangent_warmup + 1), 1)
      how = dict(tangent=tangent, warmup=warmup.astype(x_t.dtype))
      return losses.eulerian(u, x_t, t, s, velocity, **how)
    if config.method == "lagrangian":
      velocity_fn = teacher_fn or flow_maps.velocity(u)
      return losses.lagrangian(u, x_t, t, s, velocity_fn)
    if config.method == "shortcut":
      r = (t + s) / 2
      x_r = flow_maps.jump(u, x_t, t, r)
      return losses.semigroup(u, x_t, x_r, t, r, s)
    r = at.r  # consistency, with the residual over the step from t to r
    x_r = at.point(r) if teacher_fn is None else x_t + (r - t) * velocity
    found = losses.semigroup(u, x_t, x_r, t, r, s)
    return losses.Problem(*(side * (t - s) / at.span for side in found))

  return problem


def make_loss(
  config: Config, model: recipe.Model, num_classes: int, teacher: Callable
):
  """The loss of a turn, over a batch of data.

  Args:
    config: the settings.
    model: the parts that they name.
    num_classes: 0 without labels.
    teacher: () -> (label -> field), or () -> None.
  """
  problem = make_problem(config)

  def loss_fn(params, extras, key, batch, number):
    examples, labels = batch  # [B, *D], [B] or None
    t_key, one_key, noise_key, label_key, net_key = jax.random.split(key, 5)
    instant = round(config.instant * len(examples))
    t, s = recipe.draw_two(config, model, t_key, len(examples) - instant)
    t, *gap = recipe.second_times(config, model, t, s, number)
    same = model.draw(one_key, instant)
    noise = jax.random.normal(noise_key, examples.shape, examples.dtype)
    labels = single.drop_labels(config, num_classes, label_key, labels)
    keys = jax.random.split(net_key, len(examples))
    field = teacher()

    def loss(data, noise, label, key, t, s=None, *gap):  # one example
      how = dict(train=True, rngs={"dropout": key})
      u = model.map(params["model"], label, **how)
      at, teacher_fn = recipe.drawn(model.path, data, noise, t, s, *gap), None
      if field is not None:
        teacher_fn = lambda x, t: field(label)(x, t).velocity
        at = at._replace(velocity=teacher_fn(at.x_t, t))
      if s is None:
        found = losses.Problem(u(at.x_t, t, t), at.velocity)
      else:
        found = problem(u, at, teacher_fn, number)
      weight = model.weight(t).astype(data.dtype)
      loss = weight * losses.regression(found, SCALES[config.scale])
      return loss, losses.regression(found)

    # The map's derivatives are only taken of examples with s < t.
    parts = examples, noise, labels, keys
    first = jax.tree.map(lambda x: x[:instant], parts)
    rest = jax.tree.map(lambda x: x[instant:], parts)
    found, error = jax.vmap(loss)(*rest, t, s, *gap)
    metrics = {"map_error": error.mean()}
    if instant:
      more, error = jax.vmap(loss)(*first, same)
      found = jnp.concatenate([found, more])
      metrics["error"] = error.mean()
    return found.mean(), (metrics, extras)

  return loss_fn


def make_state_loss(config: Config, model: recipe.Model):
  """The loss of a turn, over a batch of a teacher's trajectories."""
  times = teachers.state_times(config, model)

  def loss_fn(params, extras, key, batch, number):
    states, labels = batch  # [B, T, *D], [B] or None
    time_key, net_key = jax.random.split(key)
    pairs = teachers.draw_pairs(config, time_key, len(states), len(times))
    keys = jax.random.split(net_key, len(states))

    def loss(states, label, key, pair):  # one example
      how = dict(train=True, rngs={"dropout": key})
      u = model.map(params["model"], label, **how)
      (x_t, x_s), (t, s) = states[pair], times[pair]
      found = losses.chord(u, x_t, x_s, t, s)
      weight = model.weight(t).astype(states.dtype)
      loss = weight * losses.regression(found, SCALES[config.scale])
      return loss, losses.regression(found)

    found, error = jax.vmap(loss)(states, labels, keys, pairs)
    return found.mean(), ({"map_error": error.mean()}, extras)

  return loss_fn


def make_batches(
  config: Config,
  model: recipe.Model,
  data: datasets.Data,
  teacher: Callable,
  key: jax.Array,
) -> Callable[[int], Any]:
  """step -> a batch of data, or of a teacher's trajectories and labels."""
  field = teacher()  # a teacher that does not fit fails before files exist
  if config.method not in recipe.OF_STATES:
    return data.batches(key, config.batch_size)
  state_key, batch_key = jax.random.split(key)
  found = teachers.trajectories(
    config, model, field, data.num_classes, state_key
  )
  return loaders.batches(found, batch_key, config.batch_size)


def make_pictures(
  config: Config, model: recipe.Model, data: datasets.Data, teacher: Callable
) -> tuple:
  """Samples by number of calls, and the map's error over (t, s)."""
  labels = sheets.keys_and_labels(data, jax.random.key(0))[1]
  shared = config, model

  def calls(path, found):
    rows = teachers.by_calls(*shared, teacher(), found, labels)
    two_times.calls(path, rows, data)

  def errors(path, found):
    found = teachers.errors(*shared, teacher(), found, labels)
    two_times.errors(path, *found)

  drawn = (("calls.png", calls),)
  whole = config.method not in (*recipe.TO_DATA, "pairs")
  return (*drawn, ("map_errors.png", errors)) if whole else drawn


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
