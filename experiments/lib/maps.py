"""The parts of experiments.transport_map: its method, batches, measures."""

import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import (
  datasets,
  figures,
  flows,
  games,
  map_settings,
  movers,
  report,
)
from experiments.lib import run as runs
from jaxgen import fields, samplers
from jaxgen.metrics import transport

plt = figures.plt
RESULT = "result.json"
NUM_TIMES = 9  # states of a displacement
NUM_CLOUD = 1000  # points of an exact assignment
NUM_ARROWS = 300


class Method(NamedTuple):
  """A map of one data set to another, which samples by one evaluation.

  Attributes:
    game: that learns it.
    source: where the map starts.
    shape: of an example, *D.
    times: of a displacement, from 0 to 1.
  """

  game: movers.Mover
  source: flows.Source
  shape: tuple[int, ...]
  times: Any
  num_calls = 1  # of the map, whatever the number of states
  from_noise = False

  @property
  def player(self) -> str:
    """Whose parameters are sampled."""
    return self.game.player

  def players(self, key: jax.Array) -> dict[str, Any]:
    """{player: parameters} that training starts from."""
    return self.game.init(key, jnp.zeros(self.shape))

  def sample(self, params: Any, key: jax.Array, label: Any) -> tuple[Any, Any]:
    """The states of a displacement [T, *D] and the data [*D] of one key."""
    start_key, solver_key = jax.random.split(key)
    x = self.source.draw(start_key)
    field = fields.from_transport_map(self.game.of(params), x)
    states = samplers.trajectory(
      samplers.euler(), field, x, self.times, solver_key
    )
    return states, states[-1]


def make_game(
  config: Any, data: datasets.Data, averages: Mapping | None = None
) -> movers.Mover:
  """The game of the configuration's method."""
  recipe = movers.RECIPES[config.method]
  asked = {n: getattr(config, n) for n in recipe._fields if n != "decay"}
  return movers.make(
    config.method,
    recipe._replace(**asked),
    math.prod(data.shape),
    epsilon=config.epsilon,
    averages=averages,
  )


def make_method(config: Any, data: datasets.Data) -> Method:
  """What the configuration says, as objects.

  Raises:
    ValueError: settings that cannot be, or no such name.
  """
  config = map_settings.resolve(config)
  map_settings.check(config, data)
  return Method(
    make_game(config, data),
    flows.source(config, data),
    data.shape,
    jnp.linspace(0.0, 1.0, NUM_TIMES),
  )


def batches(
  config: Any, data: datasets.Data, key: jax.Array
) -> Callable[[int], dict[str, Any]]:
  """step -> {player: (source, data)}, [B, *D] or [inner, B, *D], unpaired."""
  source_key, data_key = jax.random.split(key)
  return games.zipped(
    make_game(config, data).turns,
    config.batch_size,
    (flows.source(config, data).batches, source_key),
    (datasets.unlabelled(data), data_key),
  )


def held_out(config: Any, method: Method, number: int) -> np.ndarray:
  """Examples of the source that were not trained on, [N, *D].

  Of a set each of its validation split once, number at most; of a law draws.
  """
  if config.source != "gaussian":
    found = datasets.load_data(
      config.source, image_size=config.image_size, data_dir=config.data_dir
    )
    if found.law is None:
      return np.asarray(found.real[0][:number])
  key = jax.random.fold_in(jax.random.key(config.seed), 1000)
  draw = jax.jit(jax.vmap(method.source.draw))
  return np.asarray(draw(jax.random.split(key, number)))


def measure(
  config: Any, params: Any, method: Method, data: datasets.Data
) -> dict[str, Any]:
  """What the map costs and where it leads, in squared distances.

  Returns:
    number: N, of the held-out examples of each law.
    cost: mean |x - T(x)|^2 over the source's.
    w2_source_real: W2^2 of theirs and the data's: what N points say of the
      least cost.
    w2_mapped_real: W2^2 of T(x) and the data's; 0 is not to be had, but
    w2_real_real: W2^2 of training and held-out data, as many.
  """
  real = np.asarray(data.real[0])[:NUM_CLOUD]
  x = held_out(config, method, len(real))
  real = real[: len(x)]
  key = jax.random.fold_in(jax.random.key(config.seed), 1001)
  other = np.asarray(data.batches(key, len(x))(0)[0])
  mapped = np.asarray(jax.jit(jax.vmap(method.game.of(params)))(x))
  squared = lambda a, b: transport.wasserstein(a, b) ** 2
  moved = np.asarray(mapped, np.float64) - x
  return dict(
    number=len(x),
    cost=float((moved**2).sum() / len(x)),
    w2_source_real=squared(x, real),
    w2_mapped_real=squared(mapped, real),
    w2_real_real=squared(other, real),
  )


def table(found: dict[str, Any]) -> str:
  """The measures as lines of text."""
  return "\n".join(
    (
      f"{found['number']} held-out examples of each, squared distances",
      f"E|x - T(x)|^2      {found['cost']:9.4f}",
      f"W2^2 source, real  {found['w2_source_real']:9.4f}",
      f"W2^2 mapped, real  {found['w2_mapped_real']:9.4f}",
      f"W2^2 real, real    {found['w2_real_real']:9.4f}  the floor",
    )
  )


def pictures(
  config: Any,
  run_dir: pathlib.Path,
  draw: Callable,
  method: Method,
  data: datasets.Data,
) -> list[str]:
  """samples.png, trajectory.png, of points also paths.png and map.png; and
  result.json, printed.
  """
  drawn = draw()
  found = measure(config, drawn.params, method, data)
  runs.write_text(run_dir / RESULT, json.dumps(found, indent=2) + "\n")
  print(table(found))
  states, times = drawn.states, np.asarray(method.times)
  trajectory = run_dir / "trajectory.png"
  if len(data.shape) == 3:
    report.image_samples(run_dir, drawn.samples, data)
    # Held-out examples are drawn more than once: a row each.
    flat = states[:, 0].reshape(len(states), -1)
    rows = np.sort(np.unique(flat, axis=0, return_index=True)[1])[:10]
    figures.image_trajectory(trajectory, states[rows], "t", list(times[:-1]))
    return ["samples.png", trajectory.name, RESULT]
  figures.point_samples(run_dir / "samples.png", drawn.samples, data.real[0])
  few = states[:, ::2].swapaxes(0, 1)
  figures.point_trajectory(trajectory, few, "t", list(times[:-1:2]))
  figures.point_paths(run_dir / "paths.png", states, "t", list(times[:-1]))
  draw_map(run_dir / "map.png", drawn, method, data.real[0])
  return ["samples.png", trajectory.name, "paths.png", "map.png", RESULT]


def draw_map(
  path: pathlib.Path, drawn: report.Drawn, method: Method, real: np.ndarray
) -> None:
  """Displacements of source points, over the potential that they climb where
  the map is the gradient of one; and the mapped points on the real ones.

    T(x) - x = grad (phi(x) - |x|^2 / 2)
  """
  starts, ends = drawn.states[:, 0], drawn.states[:, -1]
  limit = 1.05 * np.abs(np.concatenate([starts, ends, real])).max()
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(10.4, 5.7), sharex=True, sharey=True, layout="constrained"
  )
  title = "x to T(x)"
  if method.game.potential is not None:
    _contours(left, method.game.potential(drawn.params), starts, limit)
    title += r", uphill of $\phi(x) - |x|^2 / 2$"
  few = slice(NUM_ARROWS)
  moved = ends[few] - starts[few]
  left.quiver(
    *starts[few].T,
    *moved.T,
    color="C1",
    angles="xy",
    scale_units="xy",
    scale=1,
    width=0.0025,
    alpha=0.6,
  )
  left.scatter(*starts[few].T, s=5, color="0.15", linewidths=0, zorder=3)
  right.scatter(*real[: len(ends)].T, s=6, color="0.72", lw=0, label="real")
  right.scatter(*ends.T, s=4, color="C3", lw=0, alpha=0.7, label="T(x)")
  right.legend(markerscale=3, frameon=False, loc="upper right")
  for axis, name in ((left, title), (right, "T(x) on real data")):
    axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    axis.set_title(name, fontsize=11)
  figures.save(figure, path)


def _contours(axis, potential, starts, limit):
  """Of phi(x) - |x|^2 / 2, at equal steps over the source's points."""
  level = jax.jit(jax.vmap(lambda x: potential(x) - jnp.vdot(x, x) / 2))
  side = np.linspace(-limit, limit, 161, dtype=np.float32)
  grid = np.stack(np.meshgrid(side, side), -1)
  values = np.asarray(level(grid.reshape(-1, 2))).reshape(grid.shape[:2])
  own = np.asarray(level(starts))
  levels = np.linspace(own.min(), own.max(), 14)
  kind = dict(levels=levels, cmap="Blues", zorder=0)
  axis.contourf(side, side, values, alpha=0.35, **kind)
  axis.contour(side, side, values, linewidths=0.6, alpha=0.7, **kind)
