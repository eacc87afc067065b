"""Carries held-out examples up to noise and back, and interpolates there.

  python -m experiments.encode runs/mine --number 10
  python -m experiments.encode runs/mine --solver unipc_3 --steps 96

The probability flow is a bijection: run up the grid it takes an example to its
latent, run down the same grid it takes the latent back. An example enters as
x = alpha(t_min) example, without the noise of t_min, and the state at t_min is
divided by alpha again, without a denoise. The latent is the state at t_max
divided by sigma: what a draw of standard noise starts a sample with. A model
of labels is given the example's own.

In float32 the defaults return each of the 180 held-out digits of the demo's run
to 2e-4 (--number 180), half the steps to 6e-3; unipc_3 with 64 steps to 3e-3,
with 96, at three quarters of the defaults' cost, to 3e-4.

Writes NAME.npz (examples, latents, decoded [N, *D], interpolations
[N - 1, M, *D] from each example to the next, labels [N]) and NAME.png in the
run directory.

Reference: Song et al. 2021, arXiv:2011.13456, section 4.3 and appendix D;
Song et al. 2021, arXiv:2010.02502, section 5.3 (the interpolation).
"""

import dataclasses
import pathlib
import sys
import types
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from experiments.lib import (
  averages,
  build,
  drawing,
  figures,
  settings,
  tables,
)
from experiments.lib import run as runs
from jaxgen import samplers
from jaxgen.training import sharding

MODULE = "experiments.encode"


@dataclasses.dataclass(frozen=True)
class Config:
  """What to encode; None keeps the run's own setting."""

  number: int = 10
  """Examples: the first that are held out for validation."""
  between: int = 10
  """Images of an interpolation, its ends included."""
  name: str = "encoded"
  """Of the files."""

  average: str | None = None
  """Of the run's averages, 0.999 say, or power_LENGTH: EDM2's of any length."""
  solver: tables.SolverName = "rk4"
  """One that draws no noise, and so runs in both directions."""
  grid: tables.GridName = "karras"
  """Times, up and down."""
  steps: int = 32
  """Of the solver, up and again down."""
  sample_path: tables.PathName | None = None
  """Path to run on, which need not be that of training."""


class Encoded(NamedTuple):
  """What is found, on the host.

  Attributes:
    examples: [N, *D].
    latents: states at t_max in units of its noise, [N, *D].
    decoded: from the latents, [N, *D].
    interpolations: decoded from between the latents of each example and the
      next, ends included, [N - 1, M, *D].
  """

  examples: np.ndarray
  latents: np.ndarray
  decoded: np.ndarray
  interpolations: np.ndarray


def run(run_dir: str, config: Config) -> Encoded:
  """Encodes, decodes, interpolates, writes and returns what is found."""
  config = settings.plain(config)
  _check(config)
  asked = types.SimpleNamespace(
    **vars(config), churn=None, sample_steps=config.steps
  )
  with settings.naming(config, sample_steps="steps"):
    trained, data, method = drawing.read(run_dir, asked)
  examples, labels = _held_out(data, config.number)
  params = averages.load(trained, method, average=config.average)
  encode, decode = make_coders(method)
  latents = encode(params, examples, labels)
  line = spherical if method.from_noise else straight
  found = Encoded(
    examples,
    np.asarray(latents),
    np.asarray(decode(params, latents, labels)),
    _interpolate(decode, params, latents, labels, config.between, line),
  )
  write(pathlib.Path(run_dir) / config.name, found, labels)
  return found


def make_coders(method: build.Method) -> tuple[Callable, Callable]:
  """(encode, decode): (params, [N, *D], labels [N] or None) -> [N, *D].

    encode: x / alpha(t_min) -> x / sigma(t_max) along the rising grid,
    decode: the same along the falling grid, back

  Args:
    method: what the run says; its solver draws no noise.
  """
  times = method.times
  alpha = method.sample_path.alpha(times[-1])
  sigma = method.sample_path.sigma(times[0])

  def flow(times, enter, leave):
    def one(params, x, label):
      field = build.make_field(method, params, label)
      key = jax.random.key(0)  # nothing is drawn from it
      x = samplers.integrate(method.solver, field, enter * x, times, key)
      return x / leave

    return sharding.spread(jax.vmap(one, (None, 0, 0)), sharding.mesh())

  return flow(times[::-1], alpha, sigma), flow(times, sigma, alpha)


def spherical(
  a: Float[Array, "*D"], b: Float[Array, "*D"], weight: Float[ArrayLike, ""]
) -> Float[Array, "*D"]:
  """From a to b along the great circle, where a straight line is shorter.

    (sin((1 - w) angle) a + sin(w angle) b) / sin(angle)
    angle = 2 atan2(| |b| a - |a| b |, | |b| a + |a| b |)

  Between two draws of noise it keeps the norm, which the middle of a straight
  line loses (a factor sqrt 2). Where the angle is 0 to rounding it is linear;
  the ends are exact. It overshoots between unequal norms at wide angles, which
  points of the plane have and images do not.

  Args:
    a: at weight 0, [*D]; not opposite to b, where no circle is the shortest.
    b: at weight 1, [*D].
    weight: w, [], from 0 to 1.

  Returns:
    The point between, [*D].

  Reference: Shoemake 1985, SIGGRAPH, section 3.3; Kahan 2006, "How futile are
  mindless assessments of roundoff", section 12 (the angle).
  """
  square = lambda x: jnp.sum(x**2)
  to_a, to_b = jnp.sqrt(square(b)) * a, jnp.sqrt(square(a)) * b
  apart, along = square(to_a - to_b), square(to_a + to_b)
  near = apart <= jnp.finfo(apart.dtype).eps / 4 * along
  # Where it is not used it is a right angle, so that no gradient is NaN.
  root = lambda x: jnp.sqrt(jnp.where(near, 1, x))
  angle = 2 * jnp.arctan2(root(apart), root(along))
  share = lambda w: jnp.where(near, w, jnp.sin(w * angle) / jnp.sin(angle))
  return share(1 - weight) * a + share(weight) * b


def straight(
  a: Float[Array, "*D"], b: Float[Array, "*D"], weight: Float[ArrayLike, ""]
) -> Float[Array, "*D"]:
  """From a to b along the line, between latents that are not noise."""
  return (1 - weight) * a + weight * b


def write(path: pathlib.Path, found: Encoded, labels) -> None:
  """path.npz and path.png, and how far what is decoded is from the examples."""
  known = {} if labels is None else {"labels": np.asarray(labels)}
  np.savez(f"{path}.npz", **found._asdict(), **known)
  picture = pathlib.Path(f"{path}.png")
  if found.examples.ndim == 4:
    columns = found.interpolations.shape[1]
    rows = [_rows(x, columns) for x in (found.examples, found.decoded)]
    figures.save_sheet(picture, np.concatenate([*rows, found.interpolations]))
  else:
    _points(picture, found)
  error = found.decoded - found.examples
  print(
    f"{path}.png {path}.npz: {len(error)} examples, decoded to"
    f" {np.abs(error).max():.1e} at most, {np.sqrt(np.mean(error**2)):.1e} RMS",
    file=sys.stderr,
  )


def _held_out(data, number):
  examples, labels = data.real
  if number > len(examples):
    raise ValueError(
      f"number: expected at most {len(examples)}, which are held out,"
      f" got {number}"
    )
  if not data.num_classes:
    return np.asarray(examples[:number]), None
  return np.asarray(examples[:number]), jnp.asarray(labels[:number])


def _interpolate(decode, params, latents, labels, num, line):
  """Between neighbours, with the label of the nearer one."""
  weights = jnp.linspace(0, 1, num)
  between = jax.jit(jax.vmap(line, (None, None, 0)))

  def of_pair(i):
    pair = None
    if labels is not None:
      pair = jnp.where(weights < 0.5, labels[i], labels[i + 1])
    states = between(latents[i], latents[i + 1], weights)
    return np.asarray(decode(params, states, pair))

  return np.stack([of_pair(i) for i in range(len(latents) - 1)])


def _rows(images, columns):
  """[N, H, W, K] as [R, columns, H, W, K], what is missing white."""
  white = np.ones((-len(images) % columns, *images.shape[1:]))
  whole = np.concatenate([images, white])
  return whole.reshape(-1, columns, *images.shape[1:])


def _points(path, found):
  """Latents; examples, decoded and the lines between them."""
  figure, (left, right) = figures.plt.subplots(
    1, 2, figsize=(9, 4.6), layout="constrained"
  )
  # Who is who: the latent's angle, in a cyclic map of colours.
  shown = dict(c=np.arctan2(*found.latents.T), cmap="twilight_shifted", s=24)
  left.scatter(*found.latents.T, **shown)
  left.set(title="latents", aspect="equal")
  for line in found.interpolations:
    right.plot(*line.T, color="0.8", linewidth=0.8, zorder=0)
  right.scatter(*found.examples.T, **shown)
  right.scatter(*found.decoded.T, c="black", s=12, marker="x", linewidths=0.6)
  right.set(title="examples, decoded (x) and between", aspect="equal")
  figures.save(figure, path)


def _check(config):
  runs.at_least(config, number=2, between=2, steps=1)
  runs.bare_name(config.name)
  settings.known(config)
  if config.solver not in tables.FLOW_SOLVERS:
    raise ValueError(
      "solver: expected one that draws no noise and runs both ways"
      f" ({', '.join(tables.FLOW_SOLVERS)}), got {config.solver!r}"
    )


def main() -> None:
  """The command line."""
  runs.main_of_run(MODULE, __doc__, Config, run)


if __name__ == "__main__":
  main()
