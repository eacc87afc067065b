"""README says what the records say."""

import pathlib
import statistics

import pytest

from benchmarks import few_calls
from benchmarks.peers import peers
from benchmarks.published import tong_tables
from tests import readme

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize(
  "part, titles",
  [
    ("digits", ["seed 0", "seed 1", "seed 2"]),
    ("flow", ["flow matching, seed 0", "seed 1", "seed 2"]),
    (
      "score",
      ["score matching, annealed Langevin, seed 0", "seed 1", "seed 2"],
    ),
    ("corrected", ["score matching, predictor and corrector"]),
    (
      "methods",
      [
        "EDM, heun 17",
        "DDPM, ancestral 100",
        "v-prediction, ddim 50",
        "score matching, euler_maruyama 200",
        "flow matching, euler 50",
        "DDIM of the same run, 50",
      ],
    ),
  ],
)
def test_readme_quality_tables(part, titles):
  rows = readme.records("quality")[part]["rows"].values()
  for title, row in zip(titles, rows, strict=True):
    metrics = row["test"]["metrics"]
    of = lambda *names, m=metrics: [m[name]["samples"] for name in names]
    calls = [] if part in ("digits", "methods") else [row["test"]["calls"]]
    values = [*calls, *of("frechet"), metrics["frechet"]["spread"]]
    values += of("kid", "coverage", "accuracy", "nearest_10", "nearest_50")
    assert readme.has_row(title, values + of("nearest_90", "copies")), title


def test_readme_critics_maps_and_games():
  mean = lambda values, name: statistics.fmean(v[name] for v in values)
  critics = {
    "gradient": "gradient penalty",
    "lipschitz": "one-sided penalty",
    "orthogonal": "orthogonal, sorting",
    "cones": "mix of cones",
  }
  cells = readme.records("w1")["cells"]
  plain = ["D2 N4", "D16 N4", "D16 N64", "D128 N64"]
  columns = [*plain, "D16 N64 swapped", "D128 N64 swapped"]
  for method, title in critics.items():
    found = [cells[column][method] for column in columns]
    pairs = [(mean(v, "cosine"), mean(v, "cpu")) for v in found]
    assert readme.has_row(title, [value for pair in pairs for value in pair]), (
      title
    )
  maps = {
    "linear": "linear map",
    "w2gn": "W2GN",
    "max_min": "max-min",
    "makkuva": "Makkuva's minimax",
    "semi_dual": "semi-dual with Newton's conjugates",
  }
  cells = readme.records("w2")["cells"]
  for method, title in maps.items():
    found = [mean(column[method], "uvp") for column in cells.values()]
    assert readme.has_row(title, found), title
  games = {
    "truth": "draws of the ring",
    "r3gan": "R3GAN",
    "wgan_gp": "WGAN-GP, a step of the critic",
    "wgan_gp_5": "WGAN-GP, five steps",
    "original": "original",
    "hinge": "hinge, no penalty",
    "least_squares": "least squares, no penalty",
    "non_saturating": "non-saturating, no penalty",
  }
  (cells,) = readme.records("ring")["cells"].values()
  for method, title in games.items():
    modes = [seed["modes"] for seed in cells[method]]
    assert readme.has_row(title, [*modes, mean(cells[method], "good")]), title


def test_readme_few_calls():
  rows = readme.records("few_calls")["rows"]["digits"]
  shown = {
    "EDM, the teacher": ("EDM (teacher)", "35"),
    "the teacher's pairs": ("pairs", "1"),
    "the teacher's trajectories": ("trajectories", "1"),
  }
  shown = [(title, *row) for title, row in shown.items()]
  shown += [("from scratch, shortcuts", "shortcut", n) for n in ("1", "2", "4")]
  for title, row, calls in shown:
    found = [seed["calls"][calls]["test"]["metrics"] for seed in rows[row]]
    names = "frechet", "kid", "nearest_50", "copies"
    values = [statistics.fmean(m[n]["samples"] for m in found) for n in names]
    assert readme.has_row(title, [int(calls), *values]), (title, calls)


def claims():
  """Sentences of README made from the records."""
  quality = readme.records("quality")
  seconds = [f"{r['seconds']:.0f}" for r in quality["digits"]["rows"].values()]
  yield "{}, {} and {} s for the three seeds".format(*seconds)
  test = {
    part: [row["test"]["metrics"]["frechet"] for row in found["rows"].values()]
    for part, found in quality.items()
    if part != "curve"
  }
  values = [row["samples"] for row in test["photos"]]
  gaussian = test["photos"][0]["gaussian"]
  assert min(values) > gaussian
  photos = "are {:.0f}, {:.0f} and {:.0f}, the Gaussian's is {:.0f}"
  yield photos.format(*values, gaussian)
  values = [row["samples"] for row in test["gan"]]
  yield "Frechet {:.2f}, {:.2f} and {:.2f} (real".format(*values)
  curve = quality["curve"]["rows"]["curve"]["validation"]
  rows = {int(k): v["metrics"]["nearest_90"] for k, v in curve.items()}
  after = next(k for k, v in rows.items() if v["samples"] < v["floor"])
  before = max(step for step in rows if step < after)
  missed = next(step for step, row in rows.items() if not row["met"])
  yield f"falls below that of real images between steps {before} and {after},"
  yield f"at the 90 % quantile from step {missed} on"
  errors = readme.records("peers")["error"]["rows"]
  of = {peers.label(row): row["rmse"] for row in errors}
  ours, peer = of["jaxgen rk4"], of["torchdiffeq rk4"]
  wins = [peer[grid][n] < ours[grid][n] for grid in ours for n in ours[grid]]
  yield f"Kutta's 3/8 rule, in {sum(wins)} of {len(wins)} columns"
  number = sum(row["library"] == "jaxgen" for row in errors)
  yield f"of our {number} rows has an error equal to that of the best of their"
  lines = few_calls.goals(readme.records("few_calls")["rows"]["digits"])
  met = lambda start: sum(
    ": met" in line for line in lines if line.startswith(f"- {start}")
  )
  yield f"teacher's 35 in {met('pairs')} of 3 trainings"
  yield f"at most .2 above the floor in {met('shortcut, 1')} of 3, and two"
  yield f"at most .1 above it in {met('shortcut, 2')} of 3"
  photos = readme.records("few_calls")["rows"]["photos"]
  of = lambda row, n: photos[row][0]["calls"][n]["test"]["metrics"]["frechet"]
  sentence = (
    "On photos, where EDM has {:.0f} in 35 calls, one call of a map of its"
    " pairs has {:.0f}, within the spread of either; shortcuts from scratch are"
    " far behind, {:.0f} in one call and {:.0f} in four."
  )
  rows = (
    ("EDM (teacher)", "35"),
    ("pairs", "1"),
    ("shortcut", "1"),
    ("shortcut", "4"),
  )
  yield sentence.format(*(of(*row)["samples"] for row in rows))
  teacher, pairs = (of(*row) for row in rows[:2])
  distance = abs(teacher["samples"] - pairs["samples"])
  assert distance < min(found["spread"] for found in (teacher, pairs))
  cells = readme.records("tong")
  low, clear, _ = tong_tables.tally(tong_tables.paired(cells))
  yield f"at or below torchcfm's in {low} of 8 cells, by more than two standard"
  low, clear, above = tong_tables.tally(
    tong_tables.paired(cells, tong_tables.LIKE)
  )
  assert clear == above == 0
  yield f"at or below in {low} cells and above in {8 - low}, in none by two"


def test_readme_says_what_the_records_say():
  text = " ".join((ROOT / "README.md").read_text().split())
  for claim in claims():
    assert claim in text, claim
