"""Log-likelihoods of classical densities on the digits, binary and 17 levels.

  python -m benchmarks baselines                about 2 minutes on one CPU core

Fits each model of jaxgen.metrics.baselines and jaxgen.metrics.gaussians to the
training images with every setting of a grid, chooses the setting with the best
mean log-likelihood of the validation images, and evaluates that one alone on
the test images. The pixels of the binary images are 1 from level 8 of 0 to 16.

EM starts several times from different examples; of these, the mixture with the
largest objective on the training images is kept.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks import pages, runner
from jaxgen.data import digits
from jaxgen.metrics import baselines, gaussians

SPLITS = ("train", "validation", "test")
LEVELS, DIM, CUT = 17, 64, 8
NUM_STEPS = 100  # of EM
NUM_DRAWS = 16  # of dequantisation noise
RAW_COMPONENTS = 10


class Problem(NamedTuple):
  """Levels of each split, and the divisor that makes nats the table's unit."""

  levels: Mapping[str, np.ndarray]
  num_levels: int
  unit: float


class Model(NamedTuple):
  """A row of a table: settings, and (problem, setting) -> density."""

  name: str
  fit: Callable[[Problem, Any], baselines.Density]
  settings: list
  title: Callable[[Any], str]


def problems() -> dict[str, Problem]:
  """Binary images in nats, 17 levels in bits per dimension."""
  images = {split: digits.load(split)[0].reshape(-1, DIM) for split in SPLITS}
  raw = {s: np.rint((x + 1) * 8).astype(int) for s, x in images.items()}
  binary = {s: x >= CUT for s, x in raw.items()}
  return dict(
    binary=Problem(binary, 2, 1.0),
    levels=Problem(raw, LEVELS, DIM * math.log(2)),
  )


def plain(fit) -> Callable:
  """Fits `factorised` or `chow_liu` with a pseudo-count."""
  return lambda problem, c: fit(problem.levels["train"], problem.num_levels, c)


def mixture(args, problem: Problem, setting) -> baselines.Density:
  """The best of several runs of EM, by the objective on train."""
  num_components, count = setting
  runs = [
    baselines.categorical_mixture(
      np.random.default_rng([args.seed, start]),
      problem.levels["train"],
      problem.num_levels,
      num_components,
      pseudo_count=count,
      num_steps=NUM_STEPS,
    )
    for start in range(args.starts)
  ]
  return max(runs, key=lambda run: run.objective[-1]).density


def gaussian(args, covariance: str, problem: Problem, setting):
  """A Gaussian mixture of dequantised levels."""
  num_components, added = setting
  return gaussians.gaussian_mixture(
    np.random.default_rng(args.seed),
    problem.levels["train"],
    problem.num_levels,
    num_components,
    covariance=covariance,
    reg_covar=added,
    num_draws=NUM_DRAWS,
  )


def binned(args, problem: Problem, setting):
  """A diagonal Gaussian mixture, integrated over the bins of levels."""
  return gaussians.binned_mixture(
    np.random.default_rng(args.seed),
    problem.levels["train"],
    problem.num_levels,
    setting[0],
    reg_covar=setting[1],
  )


def principal(problem: Problem, q: int) -> baselines.Density:
  """PCA of dequantised levels."""
  return gaussians.pca(problem.levels["train"], problem.num_levels, q)


def models(args) -> dict[str, list[Model]]:
  """The rows of both tables, with their grids."""
  count = lambda c: f"c = {c:g}"
  pair = lambda s: f"K = {s[0]}, c = {s[1]:g}"
  added = lambda s: f"K = {s[0]}, added variance {s[1]:g}"
  grid = lambda *axes: [*itertools.product(*axes)]
  tree, em = plain(baselines.chow_liu), functools.partial(mixture, args)
  alone = plain(baselines.factorised)
  diagonal, full = (
    functools.partial(gaussian, args, c) for c in ("diag", "full")
  )
  bins = functools.partial(binned, args)
  few, more = [0.01, 0.03, 0.1, 0.3, 1.0], [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
  many = [16.0, 32.0, 64.0, 128.0, 256.0, 512.0]
  binary = grid((20, 40, 60, 80, 100, 120), (0.1, 0.2, 0.4, 0.8))
  levels = grid((5, 10, 15, 20, 30, 40), (1.0, 2.0, 4.0, 8.0, 16.0))
  wide = grid((20, 40, 60, 80), (0.01, 0.03, 0.1))
  narrow = grid((1, 2, 5, 10, 20), (0.01, 0.1, 0.3))
  dims = [5, 10, 20, 30, 40, 50, 55, 60, 63]
  return dict(
    binary=[
      Model("factorised Bernoulli", alone, few, count),
      Model("Chow-Liu tree", tree, more, count),
      Model("mixture of Bernoullis, EM", em, binary, pair),
    ],
    levels=[
      Model("factorised categorical", alone, [0.3, *more], count),
      Model("Chow-Liu tree", tree, many, count),
      Model("mixture of categoricals, EM", em, levels, pair),
      Model("probabilistic PCA", principal, dims, lambda q: f"q = {q}"),
      Model("Gaussian mixture, diagonal", diagonal, wide, added),
      Model("the same, integrated over bins", bins, wide, added),
      Model("Gaussian mixture, full", full, narrow, added),
      Model("Gaussian mixture, full, K = 20", full, [(20, 1e-6)], added),
    ],
  )


def measure(problem: Problem, model: Model) -> dict:
  """Chooses on validation, then evaluates on test."""
  values = lambda density, split: (
    -density.log_prob(problem.levels[split]) / problem.unit
  )
  tried = {s: model.fit(problem, s) for s in model.settings}
  found = {s: values(d, "validation").mean() for s, d in tried.items()}
  best = min(found, key=lambda s: found[s])
  test = values(tried[best], "test")
  row = dict(
    name=model.name,
    tried=len(tried),
    setting=model.title(best),
    train=float(values(tried[best], "train").mean()),
    validation=float(found[best]),
    test=float(test.mean()),
    error=float(test.std(ddof=1)) / math.sqrt(len(test)),
    kind=tried[best].kind,
  )
  print(row, flush=True)
  return row


def raw_density(problem: Problem) -> dict:
  """Probabilistic PCA's mean log-density of the levels without noise."""
  train = problem.levels["train"].astype(float)
  normal = stats.multivariate_normal(
    *gaussians.probabilistic_pca(train, RAW_COMPONENTS)
  )
  value = lambda split: float(normal.logpdf(problem.levels[split]).mean())
  return dict(train=value("train"), test=value("test"))


def run(args) -> dict:
  """Measures both tables."""
  found: dict = {}
  given = problems()
  for name, rows in models(args).items():
    found[name] = [measure(given[name], model) for model in rows]
  command = f"python -m benchmarks baselines --seed {args.seed}"
  return found | dict(
    raw=raw_density(given["levels"]),
    command=f"{command} --starts {args.starts}",
    machine=runner.machine(),
  )


def _lines(rows, digits):
  for row in rows:
    single = row["tried"] == 1
    chosen = (
      "not chosen, scikit-learn's default"
      if single
      else f"best of {row['tried']}"
    )
    values = (f"{row[name]:.{digits}f}" for name in SPLITS)
    error = f"{row['error']:.{digits}f}"
    yield (
      row["name"],
      f"{row['setting']} ({chosen})",
      *values,
      error,
      row["kind"],
    )


def tables(record: dict) -> dict:
  """The parts of the page."""
  head = "model | setting | train | validation | test | standard error | kind"
  raw = record["raw"]
  row = {r["name"]: f"{r['test']:.3f}" for r in record["levels"]}
  return dict(
    made=f"`{record['command']}`, {record['machine']}.",
    binary=pages.table(head, _lines(record["binary"], 2)),
    levels=pages.table(head, _lines(record["levels"], 3)),
    gaussians=(
      "On test, the diagonal mixture has {} by its bound and {} by exact"
      " integrals; independent pixels have {}.".format(
        row["Gaussian mixture, diagonal"],
        row["the same, integrated over bins"],
        row["factorised categorical"],
      )
    ),
    raw=f"{raw['train']:.6f} nats on train and {raw['test']:.4f} on test",
  )


BENCHMARKS = {
  "baselines": runner.Benchmark(
    run, tables, dict(starts=3), flags=runner.seed_flag
  )
}
