"""The only tables of name and function: what a flag's value means.

Library code takes functions; a command line takes names. Everything that is
asked of a table by name fails with a ValueError that lists the names.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxgen import levels, paths, predictions, samplers
from jaxgen.data import digits, files, images, loaders, photos, tfds, toy
from jaxgen.training import sharding

# (ratio_min, ratio_max) -> path; only EDM's domain is set by its ratios.
PATHS: dict[str, Callable[[float, float], paths.Path]] = {
  "edm": paths.edm,
  "vp": lambda low, high: paths.vp(),
  "cosine": lambda low, high: paths.cosine(),
  "linear": lambda low, high: paths.linear(),
  "trigonometric": lambda low, high: paths.trigonometric(),
}

# sigma_data -> row; all but EDM's do not depend on it.
PREDICTIONS: dict[str, Callable] = {
  "edm": predictions.edm,
  "data": lambda sigma_data: predictions.data,
  "noise": lambda sigma_data: predictions.noise,
  "velocity": lambda sigma_data: predictions.velocity,
  "v": lambda sigma_data: predictions.v,
  "score": lambda sigma_data: predictions.score,
}


class Draw(NamedTuple):
  """A draw of t and its density over t."""

  sample: Callable  # (key, path, shape, *settings, ratio_min, ratio_max) -> t
  density: Callable  # (path, *settings, ratio_min, ratio_max) -> (t -> [])
  settings: bool  # whether it takes mean and std of the log noise ratio


DRAWS = {
  "uniform": Draw(levels.uniform, levels.uniform_density, False),
  "stratified": Draw(levels.stratified, levels.uniform_density, False),
  "normal": Draw(levels.logit_normal, levels.logit_normal_density, True),
}

# (path, sigma_data, density) -> the weight, and whose squared error it is on;
# None: of what the network predicts.
WEIGHTS: dict[str, tuple[Callable, Callable | None]] = {
  "uniform": (lambda path, sd, p: levels.uniform_weight, None),
  "edm": (lambda path, sd, p: levels.edm_weight(path, sd), predictions.data),
  "min_snr": (
    lambda path, sd, p: levels.min_snr_weight(path),
    predictions.data,
  ),
  "sigmoid": (
    lambda path, sd, p: levels.sigmoid_weight(path),
    predictions.noise,
  ),
  "noise": (lambda path, sd, p: levels.uniform_weight, predictions.noise),
  "elbo": (lambda path, sd, p: levels.elbo_weight(path, p), predictions.data),
}

# Of the probability flow: no noise, both directions of time.
FLOW_SOLVERS: dict[str, Callable[[], samplers.Solver]] = {
  "euler": samplers.euler,
  "heun": samplers.heun,
  "midpoint": samplers.midpoint,
  "rk4": samplers.rk4,
  "adams_bashforth_4": lambda: samplers.adams_bashforth(4),
  "ddim": samplers.ddim,
  "dpm_solver_2s": samplers.dpm_solver_2s,
  "dpm_solver_3s": samplers.dpm_solver_3s,
  "dpmpp_2s": samplers.dpmpp_2s,
  "dpmpp_2m": samplers.dpmpp_2m,
  "dpmpp_3m": samplers.dpmpp_3m,
  "deis_3": lambda: samplers.deis(3),
  "unipc_2": lambda: samplers.unipc(2),
  "unipc_3": lambda: samplers.unipc(3),
}

# Those that draw noise.
NOISE_SOLVERS: dict[str, Callable[[], samplers.Solver]] = {
  "euler_maruyama": samplers.euler_maruyama,
  "ancestral": samplers.ancestral,
  "dpmpp_sde": samplers.dpmpp_sde,
  "dpmpp_2m_sde": samplers.dpmpp_2m_sde,
  "seeds_2": samplers.seeds_2,
  "predictor_corrector": lambda: samplers.predictor_corrector(samplers.ddim()),
  "annealed": lambda: samplers.annealed(num_corrections=5),
}

# churn's amount -> solver; only churn reads it.
SOLVERS: dict[str, Callable[[float], samplers.Solver]] = {
  name: lambda churn, make=make: make()
  for name, make in (FLOW_SOLVERS | NOISE_SOLVERS).items()
} | {"churn": samplers.churn}

GRIDS = {
  "karras": samplers.grids.karras,
  "log_snr": samplers.grids.log_snr,
  "uniform": samplers.grids.uniform,
  "cosine": samplers.grids.cosine,
  "sigmoid": samplers.grids.sigmoid,
  "shifted": samplers.grids.shifted,
}

TOYS = {
  "eight_gaussians": toy.eight_gaussians,
  "moons": toy.moons,
  "s_curve": toy.s_curve,
  "checkerboard": toy.checkerboard,
  "swiss_roll": toy.swiss_roll,
  "pinwheel": toy.pinwheel,
}

# Which axis of a leaf of the state is split over the devices.
SHARDS: dict[str, sharding.Rule] = {
  "replicated": sharding.replicate,
  "full": sharding.longest_axis(),
}

SPLITS = ("train", "validation", "test")
NUM_POINTS = 4096  # that stand for a split of a law
# What load_data takes, for its error and for --help.
DATA = ", ".join(
  ("digits", "photos", *TOYS, "tfds:NAME", "file:PATH.npz", "folder:PATH")
)

PathName = Literal[tuple(PATHS)]  # type: ignore[valid-type]
PredictionName = Literal[tuple(PREDICTIONS)]  # type: ignore[valid-type]
DrawName = Literal[tuple(DRAWS)]  # type: ignore[valid-type]
WeightName = Literal[tuple(WEIGHTS)]  # type: ignore[valid-type]
SolverName = Literal[tuple(SOLVERS)]  # type: ignore[valid-type]
GridName = Literal[tuple(GRIDS)]  # type: ignore[valid-type]
ShardName = Literal[tuple(SHARDS)]  # type: ignore[valid-type]


class Data(NamedTuple):
  """A data set as training, pictures and metrics need it.

  Attributes:
    shape: of one example, *D.
    num_classes: of its labels; 0 where it has none.
    std: over all coordinates of the training split.
    batches: (key, batch_size) -> (step -> (examples [B, *D], labels [B])),
      labels None where there are none.
    real: held-out examples [N, *D] and their labels [N] or None: 4096 at most,
      of validation.
    split: 'train', 'validation' or 'test' -> all of its examples [N, *D] and
      labels; of a law, draws that stand for them.
    levels: equally spaced values in [-1, 1] that images are stored at; None for
      points.
  """

  shape: tuple[int, ...]
  num_classes: int
  std: float
  batches: Callable
  real: tuple[Any, Any]
  split: Callable | None = None
  levels: int | None = None


def lookup(table: dict[str, Any], name: str, flag: str) -> Any:
  """table[name].

  Raises:
    ValueError: there is no such name; lists those that there are.
  """
  if name not in table:
    raise ValueError(
      f"{flag}: expected one of {', '.join(table)}, got {name!r}"
    )
  return table[name]


def load_data(
  name: str,
  *,
  image_size: int = 32,
  flip: bool = False,
  data_dir: str | None = None,
) -> Data:
  """The data set of this name.

  Args:
    name: digits, photos, a toy, tfds:NAME, file:PATH.npz or folder:PATH.
    image_size: of photos; the others have their own.
    flip: mirror half of the training images.
    data_dir: of tfds.

  Raises:
    ValueError: no such data set, or one that cannot be trained on.
    OSError: no such file or folder.
  """
  levels = 256
  match name.split(":", 1):
    case ["digits"]:
      found, levels = (_embedded(digits.load), 10), 17
    case ["photos"]:
      found = _embedded(functools.partial(photos.load, size=image_size)), 2
    case ["tfds", place] if place:
      found = tfds.load(place, data_dir)
    case ["file", place] if place:
      found = files.load_npz(place)
    case ["folder", place] if place:
      found = files.load_folder(place)
    case [law] if law in TOYS:
      if flip:
        raise ValueError(f"flip: expected images, got {name}")
      return toy_data(TOYS[law]())
    case _:
      raise ValueError(f"data: expected one of {DATA}, got {name!r}")
  return image_data(*found, levels=levels, flip=flip)


def _embedded(load):
  return {split: loaders.in_memory(load(split)) for split in SPLITS}


def image_data(
  sources: dict[str, loaders.Source],
  num_classes: int,
  *,
  levels: int = 256,
  flip: bool = False,
) -> Data:
  """Data of images: a source of (images, labels) for each of SPLITS."""

  def read(split, rows):
    pixels, labels = sources[split].read(rows)
    return images.to_float(pixels), labels

  def batches(key, batch_size):
    if not flip:
      mirrored, order_key = lambda step, pixels: pixels, key
    else:
      order_key, flip_key = jax.random.split(key)
      mirrored = images.flips(flip_key)
    batch_fn = loaders.batches_from(sources["train"], order_key, batch_size)

    def prepared(step):
      pixels, labels = batch_fn(step)
      return images.to_float(mirrored(step, pixels)), labels

    return prepared

  def split(name):
    return read(name, np.arange(lookup(sources, name, "split").size))

  held_out = np.arange(min(sources["validation"].size, 4096))
  return Data(
    shape=read("train", held_out[:1])[0].shape[1:],
    num_classes=num_classes,
    std=images.std(sources["train"]),
    batches=batches,
    real=read("validation", held_out),
    split=split,
    levels=levels,
  )


def toy_data(law: toy.Toy) -> Data:
  """Data of a law on the plane, drawn afresh at every step."""
  many = jax.jit(
    lambda key, n: jax.vmap(law.sample)(jax.random.split(key, n)),
    static_argnums=1,
  )

  def batches(key, batch_size):
    return lambda step: (many(jax.random.fold_in(key, step), batch_size), None)

  def split(name):
    lookup(dict.fromkeys(SPLITS), name, "split")
    points = many(jax.random.key(SPLITS.index(name)), NUM_POINTS)
    return np.asarray(points), None

  std = float(split("train")[0].std())
  return Data((2,), 0, std, batches, split("validation"), split)
