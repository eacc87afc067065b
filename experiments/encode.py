"""Encodes held-out examples as noise, decodes them, and interpolates.

  python -m experiments.encode runs/mine --number 10
  python -m experiments.encode runs/mine --solver unipc_3 --steps 96

The probability flow is a bijection: integrated up the grid, it maps an example
to its latent, and down the same grid it maps the latent back. The state at
t_min is x = alpha(t_min) example, without added noise; after decoding it is
divided by alpha again, without a denoising step. The latent is the state at
t_max divided by sigma, so that standard noise has the same scale. A model with
labels gets the label of the example.

In float32, the defaults recover each of the 180 held-out digits of the demo's
run to 2e-4 (--number 180), and half the steps to 6e-3. unipc_3 recovers them to
3e-3 with 64 steps, and to 3e-4 with 96 steps, at three quarters of the
defaults' cost.

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
  """Settings of encode; None is the default named in the setting's help."""

  number: int = 10
  """Number of examples, taken from the start of validation, at least 2."""
  between: int = 10
  """Number of points per interpolation, including its ends, at least 2."""
  name: str = "encoded"
  """Name of the files, without a folder."""
  solver: choices.SolverName | None = None
  """Deterministic solver, which works in both directions; None is rk4."""
  grid: choices.GridName | None = None
  """Time grid for encoding and decoding; None is karras."""
  steps: int | None = None
  """Number of solver steps in each direction, at least 1; None is 32."""
  sample_path: choices.PathName | None = None
  """Path to integrate on, which may differ from training; None is the run's."""


# Sampling settings for runs that are sampled by a solver.
DEFAULTS = dict(solver="rk4", grid="karras", sample_steps=32)


class Encoded(NamedTuple):
  """The results, on the host.

  Attributes:
    examples: [N, *D].
    latents: states at t_max in units of its noise, [N, *D].
    decoded: examples decoded from the latents, [N, *D].
    interpolations: decoded from interpolated latents of each example and the
      next, ends included, [N - 1, M, *D].
  """

  examples: np.ndarray
  latents: np.ndarray
  decoded: np.ndarray
  interpolations: np.ndarray


def run(run_dir: str, config: Config) -> Encoded:
  """Encodes, decodes and interpolates; writes the results and returns them."""
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
  """(encode, decode), each for a batch: ((params, extras), [N, *D], labels [N]
  or None) -> [N, *D].

  Raises:
    ValueError: runs of this script have no encoder.
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
  """Writes path.npz and path.png, and prints the error of the decoding."""
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
    f"{path}.png {path}.npz: {len(error)} examples, decoding error"
    f" {np.abs(error).max():.1e} at most, {np.sqrt(np.mean(error**2)):.1e} RMS",
    file=sys.stderr,
  )


def _held_out(data, number):
  examples, labels = data.real
  if number > len(examples):
    raise ValueError(
      f"number: expected at most {len(examples)}, the number of held-out"
      f" examples, got {number}"
    )
  if not data.num_classes:
    return np.asarray(examples[:number]), None
  return np.asarray(examples[:number]), jnp.asarray(labels[:number])


def _interpolate(decode, trained, latents, labels, num, line):
  """Interpolates between neighbours; each point has the nearer one's label."""
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
  """[N, H, W, K] as [R, columns, H, W, K]; missing images are white."""
  white = np.ones((-len(images) % columns, *images.shape[1:]))
  whole = np.concatenate([images, white])
  return whole.reshape(-1, columns, *images.shape[1:])


def _points(path, found):
  """Draws the latents, the examples, the decoded points and interpolations."""
  figure, (left, right) = figures.plt.subplots(
    1, 2, figsize=(9, 4.6), layout="constrained"
  )
  dim, flat = found.latents.shape[-1], map(figures.plane, found)
  examples, latents, decoded, interpolations = flat
  # Points with the same colour belong together: it is the latent's angle.
  shown = dict(c=np.arctan2(*latents.T), cmap="twilight_shifted", s=24)
  left.scatter(*latents.T, **shown)
  left.set(title="latents", aspect="equal")
  for line in interpolations:
    right.plot(*line.T, color="0.8", linewidth=0.8, zorder=0)
  right.scatter(*examples.T, **shown)
  right.scatter(*decoded.T, c="black", s=12, marker="x", linewidths=0.6)
  for axis in (left, right):
    figures.name_plane(axis, dim)
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
      "solver: expected a deterministic solver"
      f" ({', '.join(choices.FLOW_SOLVERS)}), got {config.solver!r}"
    )


def main() -> None:
  """The command line."""
  command_line.main_of_run(__file__, __doc__, Config, run)


if __name__ == "__main__":
  main()
