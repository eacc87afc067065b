"""A flow map between standard noise and data.

`make` builds the parts that the settings name. The map works between the times
of the two noise ratios of the settings: it starts from sigma(t) noise at the
first, and a sample is its state at the last over alpha(t). recipes.teachers
reads what a map learns from.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.lib import checks, choices, datasets
from experiments.recipes import levels, networks, single
from jaxgen import fields, flow_maps, paths, predictions, samplers
from jaxgen import levels as times

TO_DATA = ("scm", "consistency")  # methods whose maps all end at the data
OF_STATES = ("pairs", "trajectories")  # methods that regress on states
# Weights of squared errors by method; the others have weight 1.
SCALES = dict(meanflow="adaptive", improved="adaptive", scm="normalised")
SCALES |= dict(consistency="huber")


class Model(NamedTuple):
  """The parts that the settings name.

  Attributes:
    net: a Flax module for one example and two times.
    shape: shape of an example, *D.
    path: the Gaussian path.
    ends: the last and the first time of the map.
    sigma_data: standard deviation of the data.
    draw: (key, n) -> t [n].
    weight: t -> [], on the squared error of velocities.
    solver, times: parts of sampling; times [N + 1] decrease.
  """

  net: Any
  shape: tuple[int, ...]
  path: paths.Path
  ends: tuple[Any, Any]
  sigma_data: float
  draw: Callable
  weight: Callable
  solver: samplers.Solver
  times: Any

  def init(self, key: jax.Array) -> Any:
    """Initial parameters."""
    return self.net.init(key, jnp.zeros(self.shape), jnp.zeros(2))

  def map(self, params: Any, label: Any, **how: Any) -> flow_maps.FlowMap:
    """The map of one label; `how` goes to the network's apply."""
    net = lambda x, c: self.net.apply(params, x, c, label, **how)
    u = flow_maps.preconditioned(net, self.path, self.sigma_data)
    return flow_maps.FlowMap(u, self.path)

  def field(self, params: Any, label: Any) -> fields.Field:
    """The flow of the map's own velocity, u(x, t, t)."""
    velocity = flow_maps.velocity(self.map(params, label))
    return fields.from_prediction(velocity, self.path, predictions.velocity)

  def start(self, key: jax.Array) -> jax.Array:
    """The state at the first time, [*D]."""
    return self.path.sigma(self.ends[1]) * jax.random.normal(key, self.shape)

  def finish(self, x: jax.Array) -> jax.Array:
    """The sample of a state at the last time, [*D]."""
    return x / self.path.alpha(self.ends[0])

  def sample(self, params: Any, key: jax.Array, label: Any) -> tuple[Any, Any]:
    """The states at all times [T, *D] and the data [*D], for one key."""
    start_key, solver_key = jax.random.split(key)
    states = samplers.trajectory(
      self.solver,
      self.map(params, label),
      self.start(start_key),
      self.times,
      solver_key,
    )
    return states, self.finish(states[-1])


class Drawn(NamedTuple):
  """A point of the path of one example.

  Attributes:
    x_t: alpha(t) data + sigma(t) noise, [*D].
    t: time, [].
    s: the map's end, [], or None.
    r: the second time of consistency, [], between them, or None.
    span: what a residual between t and r is divided by, [], or None.
    velocity: alpha' data + sigma' noise, or a teacher's at x_t, [*D].
    point: r -> alpha(r) data + sigma(r) noise.
  """

  x_t: jax.Array
  t: jax.Array
  s: jax.Array | None
  r: jax.Array | None
  span: jax.Array | None
  velocity: jax.Array
  point: Callable


def drawn(
  path: paths.Path,
  data: Any,
  noise: Any,
  t: Any,
  s: Any,
  r: Any = None,
  span: Any = None,
) -> Drawn:
  """The point at t of one pair of data and noise."""
  point = lambda r: path.alpha(r) * data + path.sigma(r) * noise
  velocity = predictions.target(path, predictions.velocity, data, noise, t)
  return Drawn(point(t), t, s, r, span, velocity, point)


def resolve(config: Any) -> Any:
  """The settings of flow_map, with those of the method where they are None.

  Raises:
    ValueError: settings that do not fit the method.
  """
  found = {}
  if config.instant is None:
    all_jump = config.method in (*TO_DATA, *OF_STATES)
    found["instant"] = 0.0 if all_jump else 0.5
  if config.scale is None:
    found["scale"] = SCALES.get(config.method, "one")
  if config.solver is None:
    to_data = config.method in TO_DATA
    found["solver"] = "renoised" if to_data else "jump_map"
  config = checks.replace(config, **found)
  _check_method(config)
  return config


def make(
  config: Any,
  data: datasets.Data,
  solver: str = "jump_map",
  grid: str = "uniform",
  num_steps: int = 1,
) -> Model:
  """Validates the settings and builds the parts that they name.

  Args:
    config: the settings.
    data: the dataset.
    solver, grid: names of the solver and of its grid.
    num_steps: number of steps of a sample.

  Raises:
    ValueError: no such name, or invalid settings.
  """
  check(config)
  path = levels.make_path(config, config.path, "path")
  draw, weight = levels.draw_and_weight(config, path, predictions.velocity)
  limits = levels.ends(config)
  make_grid = choices.lookup(choices.GRIDS, grid, "grid")
  with checks.naming(config, num_steps="sample_steps"):
    times = make_grid(path, num_steps, **limits)
  return Model(
    net=networks.make(config, data),
    shape=data.shape,
    path=path,
    ends=path.ends(**limits),
    sigma_data=config.sigma_data,
    draw=lambda key, n: draw(key, (n,)),
    weight=weight,
    solver=choices.lookup(choices.MAP_SOLVERS, solver, "solver")(),
    times=times,
  )


def draw_two(
  config: Any, model: Model, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array]:
  """(t [n], s [n]) with s <= t, two draws of t in order.

  A fraction config.ends of the t are the first time, and of the s the last; for
  scm and consistency, all s are the last time.
  """
  t_key, s_key, first_key, last_key = jax.random.split(key, 4)
  low, high = model.ends
  one = model.draw(t_key, n)
  if config.method in TO_DATA:
    return one, jnp.full_like(one, low)
  other = model.draw(s_key, n)
  chosen = lambda key: jax.random.uniform(key, (n,)) < config.ends
  t = jnp.where(chosen(first_key), high, jnp.maximum(one, other))
  return t, jnp.where(chosen(last_key), low, jnp.minimum(one, other))


def second_times(
  config: Any, model: Model, t: jax.Array, s: jax.Array, number: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
  """(t, r, span) [n] of consistency at a step of training; others have t alone.

  Over config.stages stages the distance to r is halved, in shares of that to s,
  and the residual is divided by t - r (ECT); or the number of steps of a grid,
  10 at first, is doubled, t and r are neighbours on it, and the residual is
  divided by the difference of their noise ratios (iCT).
  """
  if config.method != "consistency":
    return t, None, None
  stage = jnp.floor(config.stages * number / config.num_steps)
  if config.gap == "grid":
    limits, path = levels.ends(config), model.path
    t, r = times.neighbours(t, path, 10 * 2.0**stage, **limits)
    return t, r, path.ratio(t) - path.ratio(r)
  r = t + (s - t) * (2.0 ** -(1 + stage)).astype(t.dtype)
  return t, r, t - r


def check(config: Any) -> None:
  """Raises ValueError for invalid settings that the scripts of maps share."""
  single.check(config)
  checks.at_least(config, width=1, num_blocks=0, num_heads=1, patch=1)
  checks.positive(config, "sigma_data", "level_std")
  checks.fraction(config, "dropout")
  paths.linear().ends(config.ratio_min, config.ratio_max)
  if config.attention_implementation == "cudnn":
    raise ValueError(
      "attention_implementation: expected xla, as maps need the forward"
      " derivative that cudnn's attention lacks, got cudnn"
    )


def _check_method(config: Any) -> None:
  counts = "sample_steps", "num_pairs", "teacher_steps", "stages"
  checks.at_least(config, **dict.fromkeys(counts, 1), tangent_warmup=0)
  if config.gap == "grid" and config.method != "consistency":
    raise ValueError(
      f"gap, method: expected consistency for a grid, got {config.method}"
    )
  if not 0 <= config.ends <= 1:
    raise ValueError(f"ends: expected 0 to 1, got {config.ends:g}")
  if not 0 <= config.instant < 1:
    raise ValueError(
      f"instant: expected at least 0 and below 1, got {config.instant:g}"
    )
  if config.method in OF_STATES:
    if config.teacher is None:
      raise ValueError(
        f"method, teacher: expected a run, which {config.method} needs, got"
        " none"
      )
    if config.label_dropout:
      raise ValueError(
        f"label_dropout: expected 0, as states of a teacher have labels, got"
        f" {config.label_dropout:g}"
      )
    if config.instant:
      raise ValueError(
        f"instant: expected 0, as {config.method} has states of a teacher in"
        f" place of data, got {config.instant:g}"
      )
