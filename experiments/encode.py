"""Encodes held-out examples as noise, decodes them, and interpolates.

  python -m experiments.encode runs/mine --number 10
  python -m experiments.encode runs/mine --solver unipc_3 --steps 96

The probability flow is a bijection: integrated up the grid, it maps an example
to its latent, and down the same grid it maps the latent back. The state at
t_min is x = alpha(t_min) example, without added noise; after decoding it is
divided by alpha again, without a denoising step. The latent is the state at
t_max divided by sigma, so that standard noise has the same scale. A model with
labels gets the label of the example.

Each interpolation leads from an example to its partner, the next held-out
example with the same label (any label, for data without labels; the first
follows the last). So all its points are on the flow of one label: between
examples of two classes, the picture would jump where the label changes, and
show nothing of the latents. A class with one held-out example has no other
partner than that example itself.

In float32, the defaults recover each of the 180 held-out digits of the demo's
run to 2e-4 (--number 180), and half the steps to 6e-3. unipc_3 recovers them to
3e-3 with 64 steps, and to 3e-4 with 96 steps, at three quarters of the
defaults' cost.

Writes NAME.npz (examples, partners, latents, decoded [N, *D], interpolations
[N, M, *D] from each example to its partner, labels [N]) and NAME.png in the run
directory.

Reference: Song et al. 2021, arXiv:2011.13456, section 4.3 and appendix D;
Song et al. 2021, arXiv:2010.02502, section 5.3 (the interpolation).
"""

import dataclasses
import pathlib
import sys
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from experiments.lib import averages, checks, choices, command_line, samples
from experiments.pictures import encodings


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


class Encoded(NamedTuple):
  """The results, on the host.

  Attributes:
    examples: [N, *D].
    partners: the next held-out example with the label of each, [N, *D].
    latents: states at t_max in units of its noise, [N, *D].
    decoded: examples decoded from the latents, [N, *D].
    interpolations: decoded from interpolated latents of each example and its
      partner, ends included, [N, M, *D].
  """

  examples: np.ndarray
  partners: np.ndarray
  latents: np.ndarray
  decoded: np.ndarray
  interpolations: np.ndarray


def run(run_dir: str, config: Config) -> Encoded:
  """Encodes, decodes and interpolates; writes the results and returns them."""
  config = checks.plain(config)
  _check(config)
  asked = types.SimpleNamespace(**vars(config), sample_steps=config.steps)
  with checks.naming(config, sample_steps="steps"):
    ex = samples.read(run_dir, asked, config.script, **samples.CODING)
  encode, decode = samples.make_coders(ex)
  examples, partners, labels = _held_out(ex.data, config.number)
  trained = averages.load(ex, average=config.average)
  latents, others = (encode(trained, x, labels) for x in (examples, partners))
  steps = jnp.linspace(0, 1, config.between)
  line = jax.vmap(ex.between, (None, None, 0))
  between = jax.jit(jax.vmap(line, (0, 0, None), 1))(latents, others, steps)
  found = Encoded(
    examples,
    partners,
    np.asarray(latents),
    np.asarray(decode(trained, latents, labels)),
    np.stack([decode(trained, x, labels) for x in between], 1),
  )
  write(pathlib.Path(run_dir) / config.name, found, labels)
  return found


def write(path: pathlib.Path, found: Encoded, labels) -> None:
  """Writes path.npz and path.png, and prints the error of the decoding."""
  known = {} if labels is None else {"labels": np.asarray(labels)}
  np.savez(f"{path}.npz", **found._asdict(), **known)
  picture = pathlib.Path(f"{path}.png")
  if found.examples.ndim == 4:
    encodings.images(picture, found, known.get("labels"))
  else:
    encodings.points(picture, found)
  error = found.decoded - found.examples
  print(
    f"{path}.png {path}.npz: {len(error)} examples, decoding error"
    f" {np.abs(error).max():.1e} at most, {np.sqrt(np.mean(error**2)):.1e} RMS",
    file=sys.stderr,
  )


def _held_out(data, number):
  """(examples [N, *D], their partners [N, *D], labels [N] or None)."""
  examples, labels = data.real
  if number > len(examples):
    raise ValueError(
      f"number: expected at most {len(examples)}, the number of held-out"
      f" examples, got {number}"
    )
  labels = np.asarray(labels) if data.num_classes else None
  partners = np.roll(np.arange(len(examples)), -1)
  for label in () if labels is None else np.unique(labels[:number]):
    mine = np.flatnonzero(labels == label)
    partners[mine] = np.roll(mine, -1)
  examples = np.asarray(examples)
  pairs = examples[:number], examples[partners[:number]]
  return *pairs, None if labels is None else jnp.asarray(labels[:number])


def _check(config):
  checks.at_least(config, number=2, between=2)
  if config.steps is not None:
    checks.at_least(config, steps=1)
  checks.bare_name(config.name)
  checks.known(config)
  samples.check_coding(config)


def main() -> None:
  """The command line."""
  command_line.main_of_run(__file__, __doc__, Config, run)


if __name__ == "__main__":
  main()
