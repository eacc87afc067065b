"""What metrics of sets of features cost: time, memory, and equal values.

  pip install --no-deps clean-fid==0.1.35       # for its column
  python -m benchmarks metrics          about 8 minutes on two CPU cores

Features are max(L z + noise, 0) in 2048 dimensions with 64 factors z. Frechet:
from two sets of 50,000 to the distance, beside this project's earlier program
(eigenvectors of both covariances and singular values) and clean-fid's functions
on numpy.mean and numpy.cov, in turn. Neighbours: two sets of 10,000, beside
SciPy's cdist of every pair in float64, of which one row in twenty is computed
and its time multiplied by twenty. Ours is timed before and after each of them;
the ratio is of their mean, its spread the two ratios.

Memory is the most that NumPy held at once beside the features (tracemalloc).
"""

import sys
import time
import tracemalloc
import warnings
from unittest import mock

import numpy as np
import scipy
from scipy.spatial import distance

from benchmarks import pages, runner
from benchmarks.speed import timing
from jaxgen import couplings
from jaxgen.metrics import frechet, neighbours

SIZE, MANY, FEW, CHECKED, PART = 2048, 50_000, 10_000, 1000, 20
GOALS = {"clean-fid": 0.6, "earlier": 0.5, "cdist": 0.1, "squares": 0.5}


def features(seed, number, dtype="float32", size=SIZE):
  """A set, [number, size]; seeds differ a little in distribution."""
  rng = np.random.default_rng(seed)
  loadings = np.random.default_rng(7).standard_normal((64, size), "float32")
  factors = rng.standard_normal((number, 64), "float32") * (1 + 0.1 * seed)
  found = rng.standard_normal((number, size), "float32")
  found *= 0.3
  found += factors @ (0.2 * loadings)
  return np.maximum(found, 0, out=found).astype(dtype, copy=False)


def earlier_frechet(a, b):
  """The Frechet distance as this project computed it before."""
  a, b = (_earlier_fit(x) for x in (a, b))
  roots = frechet.root(a.covariance), frechet.root(b.covariance)
  overlap = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
  traces = np.trace(a.covariance) + np.trace(b.covariance)
  return float(np.sum((a.mean - b.mean) ** 2) + traces - 2 * overlap)


def _earlier_fit(points):
  points = np.asarray(points, np.float64)
  centered = points - points.mean(0)
  covariance = centered.T @ centered / (len(points) - 1)
  return frechet.Gaussian(points.mean(0), covariance)


def clean_fid():
  """(a, b) -> distance by clean-fid's functions; None if not installed.

  Its module imports torchvision, which frechet_distance does not use: a mock
  stands in for it.
  """
  if timing.version("clean-fid") is None:
    return None
  missing = ("torchvision", "torchvision.transforms")
  with mock.patch.dict(sys.modules, {m: mock.MagicMock() for m in missing}):
    from cleanfid import fid

  def run(a, b):
    moments = [(np.mean(x, axis=0), np.cov(x, rowvar=False)) for x in (a, b)]
    with warnings.catch_warnings():  # of an argument of sqrtm
      warnings.simplefilter("ignore", DeprecationWarning)
      return float(fid.frechet_distance(*moments[0], *moments[1]))

  return run


def timed(call):
  """(seconds and CPU seconds, peak MiB of NumPy, result)."""
  clocks = lambda: np.array([time.perf_counter(), time.process_time()])
  tracemalloc.start()
  begun = clocks()
  found = call()
  seconds = clocks() - begun
  peak = tracemalloc.get_traced_memory()[1] / 2**20
  tracemalloc.stop()
  return seconds, peak, found


def beside(what, ours, peers):
  """A row for each of {peer: (call, by how much its time is multiplied)}.

  The difference is that of the results, relative to the peer's, where both
  compute the same.
  """
  rows, before = [], timed(ours)
  for who, (call, times) in peers.items():
    seconds, peak, theirs = timed(call)
    after = timed(ours)
    seconds *= times
    ours_s = (before[0] + after[0]) / 2
    low, high = sorted(x[0][0] / seconds[0] for x in (before, after))
    row = dict(name=what, who=who, limit=GOALS[who], low=low, high=high)
    row |= dict(ratio=ours_s[0] / seconds[0], cpu_ratio=ours_s[1] / seconds[1])
    row |= dict(ours_s=ours_s[0], theirs_s=seconds[0])
    row |= dict(ours_mib=before[1], theirs_mib=peak)
    if times == 1:
      row["difference"] = abs(before[2] / theirs - 1)
    rows.append(row)
    print(row, flush=True)
    before = after
  return rows


def frechet_rows():
  """The distance of two sets of 50,000."""
  a, b = features(0, MANY), features(1, MANY)
  peers = {"earlier": (lambda: earlier_frechet(a, b), 1)}
  if (peer := clean_fid()) is not None:
    peers["clean-fid"] = (lambda: peer(a, b), 1)
  return beside(
    f"Frechet, 2 x {MANY:,}, float32", lambda: frechet.distance(a, b), peers
  )


def earlier_nearest(points, reference):
  """Rows of the nearest neighbours as this project found them before."""
  found = [
    np.argmin(couplings.squares(points[i : i + 1024], reference), 1)
    for i in range(0, len(points), 1024)
  ]
  return np.concatenate(found)


def neighbour_rows():
  """Density and coverage, precision and recall, nearest: two sets of 10,000.

  Density and coverage need two matrices of distances, precision and recall
  three.
  """
  rows = []
  for dtype in ("float32", "float64"):
    real, samples = (features(seed, FEW, dtype) for seed in (0, 1))
    name = lambda what, dtype=dtype: f"{what}, 2 x {FEW:,}, {dtype}"
    part = np.float64(samples[: FEW // PART])
    every = lambda real=real, part=part: distance.cdist(part, np.float64(real))
    for what, number in (("density_coverage", 2), ("precision_recall", 3)):
      measure = getattr(neighbours, what)
      ours = lambda m=measure, r=real, s=samples: m(r, s)
      rows += beside(name(what), ours, {"cdist": (every, number * PART)})
    sets = samples[:2048], real
    ours, theirs = neighbours.nearest, earlier_nearest
    rows += beside(
      f"nearest, 2,048 of {FEW:,}, {dtype}",
      lambda sets=sets, f=ours: f(*sets)[1].sum(),
      {"squares": (lambda sets=sets, f=theirs: f(*sets).sum(), 1)},
    )
  return rows


def direct(real, samples, k):
  """The counts of both pairs of measures, by cdist of every pair."""

  def radii(points):
    among = distance.cdist(points, points)
    np.fill_diagonal(among, np.inf)
    return np.partition(among, k - 1, axis=1)[:, k - 1]

  real, samples = np.float64(real), np.float64(samples)
  apart = distance.cdist(real, samples)
  balls, others = radii(real)[:, None], radii(samples)
  inside = apart < balls
  near = (apart <= balls).any(0), (apart <= others).any(1)
  density = inside.sum() / (k * len(samples))
  return density, inside.any(1).mean(), near[0].mean(), near[1].mean()


def checks():
  """Largest relative difference of the four measures from the direct ones."""
  rows = []
  for dtype in ("float32", "float64"):
    sets = [features(seed, CHECKED, dtype) for seed in (0, 1)]
    truth, worst = np.array(direct(*sets, 5)), 0.0
    found = neighbours.density_coverage(*sets, 5)
    found = np.array((*found, *neighbours.precision_recall(*sets, 5)))
    worst = float(np.max(np.abs(found / truth - 1)))
    values = found.tolist()
    rows.append(dict(dtype=dtype, difference=worst, values=values))
  return rows


def reach():
  """Peak memory in MiB of the nearest of 50,000, of each size of a number."""
  found = {}
  for dtype in ("float32", "float64"):
    reference = features(0, MANY, dtype)
    points = features(1, 1024, dtype)
    found[dtype] = timed(lambda r=reference, p=points: neighbours.nearest(p, r))
    found[dtype] = found[dtype][1]
  return found


def run(args) -> dict:
  """Measures times, memory and differences."""
  del args
  record = dict(machine=f"{runner.machine()}, SciPy {scipy.__version__}")
  record |= dict(numpy=np.__version__, clean_fid=timing.version("clean-fid"))
  record["checks"] = checks()
  record["rows"] = frechet_rows() + neighbour_rows()
  return record | dict(reach=reach())


def tables(record: dict) -> dict:
  """The parts of the page."""
  rows = []
  for r in record["rows"]:
    ratio = timing.ratio_of(r), f"{r['cpu_ratio']:.3f}"
    gap = f"{r['difference']:.0e}" if "difference" in r else "-"
    seconds = f"{r['ours_s']:.1f}", f"{r['theirs_s']:.1f}"
    names = r["name"], r["who"], *ratio, f"{r['limit']:g}"
    rows.append((*names, *seconds, f"{r['ours_mib']:.0f}", gap))
  head = (
    "what | beside | ratio of times | of CPU times | goal | ours, s | theirs, s"
  )
  peer = record["clean_fid"] or "not installed"
  counts = (
    (r["dtype"], *(f"{v:.4f}" for v in r["values"]), f"{r['difference']:.0e}")
    for r in record["checks"]
  )
  titles = "features | density | coverage | precision | recall | difference"
  return dict(
    made=f"`python -m benchmarks metrics` on {record['machine']}, NumPy"
    f" {record['numpy']}, clean-fid {peer}.",
    times=pages.table(f"{head} | ours, MiB | difference", rows),
    checks=pages.table(titles, counts),
    reach=", ".join(f"{k} {v:.0f} MiB" for k, v in record["reach"].items()),
  )


BENCHMARKS = {"metrics": runner.Benchmark(run, tables)}
