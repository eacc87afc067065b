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

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import averages, checks, choices, command_line, samples
from experiments.pictures import figures
from jaxgen.training import sharding


@dataclasses.dataclass(frozen=True)
class Config(settings.Read):
  """What to encode; None keeps the run's own setting."""

  number: int = 10
  """Number of examples, the first of validation, at least 2."""
  between: int = 10
  """Number of images of an interpolation, its ends included, at least 2."""
  name: str = "encoded"
  """Name of the files, without a folder."""
  solver: choices.SolverName | None = None
  """Solver without noise, which runs in both directions; None is rk4."""
  grid: choices.GridName | None = None
  """Time grid, up and down; None is karras."""
  steps: int | None = None
  """Number of solver steps, up and again down, at least 1; None is 32."""
  sample_path: choices.PathName | None = None
  """Path to run on, not necessarily that of training; None is the run's."""


# Of runs that a solver samples.
DEFAULTS = dict(solver="rk4", grid="karras", sample_steps=32)


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
  config = checks.plain(config)
  _check(config)
  asked = types.SimpleNamespace(**vars(config), sample_steps=config.steps)
  with checks.naming(config, sample_steps="steps"):
    ex = samples.read(run_dir, asked, config.script, **DEFAULTS)
  encode, decode = make_coders(ex)
  examples, labels = _held_out(ex.data, config.number)
  trained = averages.load(ex, average=config.average)
  latents = encode(trained, examples, labels)
  found = Encoded(
    examples,
    np.asarray(latents),
    np.asarray(decode(trained, latents, labels)),
    _interpolate(decode, trained, latents, labels, config.between, ex.between),
  )
  write(pathlib.Path(run_dir) / config.name, found, labels)
  return found


def make_coders(ex: Experiment) -> tuple[Callable, Callable]:
  """(encode, decode) of many: ((params, extras), [N, *D], labels [N] or None)
  -> [N, *D].

  Raises:
    ValueError: runs of this script encode nothing.
  """
  if ex.encode is None or ex.decode is None:
    raise ValueError(
      f"{ex.config.run_dir}: a run of this script has no encoder"
    )

  def many(fn):
    one = lambda trained, x, label: fn(*trained, x, label)
    return sharding.spread(jax.vmap(one, (None, 0, 0)), sharding.mesh())

  return many(ex.encode), many(ex.decode)


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


def _interpolate(decode, trained, latents, labels, num, line):
  """Between neighbours, with the label of the nearer one."""
  weights = jnp.linspace(0, 1, num)
  between = jax.jit(jax.vmap(line, (None, None, 0)))

  def of_pair(i):
    pair = None
    if labels is not None:
      pair = jnp.where(weights < 0.5, labels[i], labels[i + 1])
    states = between(latents[i], latents[i + 1], weights)
    return np.asarray(decode(trained, states, pair))

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
  checks.at_least(config, number=2, between=2)
  if config.steps is not None:
    checks.at_least(config, steps=1)
  checks.bare_name(config.name)
  checks.known(config)
  if config.solver not in (None, *choices.FLOW_SOLVERS):
    raise ValueError(
      "solver: expected one that draws no noise and runs both ways"
      f" ({', '.join(choices.FLOW_SOLVERS)}), got {config.solver!r}"
    )


def main() -> None:
  """The command line."""
  command_line.main_of_run(__file__, __doc__, Config, run)


if __name__ == "__main__":
  main()
