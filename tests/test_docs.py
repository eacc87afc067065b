"""Blocks of the pages run, commands parse, figures are those of the records."""

import argparse
import importlib
import json
import pathlib
import re
import shlex
import statistics

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import pages
from benchmarks.peers import peers
from benchmarks.published import tong_tables
from tests import expect, user_files
from tests.experiments import scripts

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def blocks(language):
  for page in PAGES:
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    for number, text in enumerate(found):
      yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.mark.parametrize("text", list(blocks("python")))
def test_python_blocks_run(text):
  exec(compile(text, "page", "exec"), {"__name__": "page"})


def lines():
  """Of the blocks, and between backticks in README and docs/*.md."""
  for block in blocks("bash"):
    yield from block.values[0].replace("\\\n", " ").splitlines()
  for page in PAGES:
    if page.parent.name != "results":
      text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
      yield from re.findall(r"`((?:[A-Z_]+=\S+ )*python -m [^`]+)`", text)


def commands():
  for line in lines():
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # NAME=value
      words = words[1:]
    if words:
      yield pytest.param(words, id=" ".join(words)[:60])


@pytest.fixture(scope="session")
def own(tmp_path_factory):
  """A user's folder, with the data and first stages that commands name."""
  folder = user_files.write(tmp_path_factory.mktemp("own"))
  for run, row in (("kl", "gaussian vqvae"), ("vqvae", "residual vqvae")):
    scripts.trained(row, folder / "runs" / run)
  return folder


@pytest.mark.parametrize("words", list(commands()))
def test_commands_parse(words, monkeypatch, own):
  """make targets exist; scripts accept the flags, their work replaced."""
  monkeypatch.chdir(own)
  if words[0] == "make":
    assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
    return
  from experiments.lib import command_line

  if words[:2] == ["python", "mixture.py"]:  # test_new_family.py runs it
    return
  assert words[:2] == ["python", "-m"]
  if words[2] == "pytest":
    assert all((ROOT / file).exists() for file in words[3:])
    return
  monkeypatch.setattr("sys.argv", words[2:])
  seen = []
  if words[2] == "benchmarks":
    if words[3:] in ([], ["pages"]):
      return
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser, given):
      seen.append(parse(parser, given))
      raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    with pytest.raises(KeyboardInterrupt):
      benchmarks.main(words[3:])
    assert len(seen) == 1
    return
  script = importlib.import_module(words[2])
  if hasattr(script, "PRESETS"):
    command_line.main(script.__file__, script.PRESETS, seen.append)
    if not seen[0].data.startswith("tfds:"):  # not on this machine
      script.experiment(seen[0])
  else:
    monkeypatch.setattr(script, "run", lambda *given: seen.append(given))
    script.main()
  assert len(seen) == 1


def test_links_lead_somewhere():
  for page in PAGES:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
      if "://" not in link:
        assert (page.parent / link).exists(), f"{page.name}: {link}"


def records(name):
  return json.loads((ROOT / f"docs/results/{name}.json").read_text())


def test_results_are_what_their_records_make():
  for name in benchmarks.BENCHMARKS:
    if name not in benchmarks.NO_PAGE:
      parts = benchmarks.load(name)[1].tables(records(name))
      text = (ROOT / f"docs/results/{name}.md").read_text()
      marked = {found[1] for found in pages.PART.finditer(text)}
      assert parts.keys() == marked, name
      assert pages.page(name, parts) == text, (
        f"python -m benchmarks pages: {name}"
      )


def test_records_name_no_place_of_a_machine():
  place = re.compile(r"(?<![\w.:/-])/(?:home|root|tmp|work|Users|private)/")
  for record in (ROOT / "docs/results").glob("*.json"):
    text = record.read_text().replace("\\n", "\n")
    assert not place.search(text), record.name


def test_a_page_takes_the_parts_of_its_record_and_no_others():
  text = "One <!-- a -->1<!-- end -->.\n\n<!-- b -->\n| x |\n<!-- end -->\n"
  filled = pages.fill("name", text, dict(a="2", b=["| y |", "| z |"]))
  expected = "One <!-- a -->2<!-- end -->.\n\n<!-- b -->\n| y |\n| z |\n"
  assert filled == expected + "<!-- end -->\n"
  assert "<!-- a -->Not measured.<!-- end -->" in pages.fill("name", text, {})
  said = r"name.md: expected marked parts \['c"
  expect.error(said, pages.fill, "name", text, dict(c="3"))


def test_the_list_of_benchmarks(capsys):
  benchmarks.main([])
  text = capsys.readouterr().out
  for name, (_, sentence) in benchmarks.BENCHMARKS.items():
    assert f"{name} " in text and sentence in text
    assert name in benchmarks.load(name)[0].BENCHMARKS
  with pytest.raises(SystemExit, match=r"expected one of .*, got quantity"):
    benchmarks.main(["quantity"])


def readme_cells(title):
  """Of the lines of README's tables with this title, the numbers."""
  lines = (ROOT / "README.md").read_text().splitlines()
  found = [line for line in lines if line.startswith(f"| {title} |")]
  return [re.findall(r"-?\d*\.?\d+", line[len(title) + 3 :]) for line in found]


def rounded(value, shown):
  """Whether a figure of README is the value to the digits that it shows."""
  digits = len(shown.partition(".")[2])
  return abs(value - float(shown)) <= 0.5001 * 10**-digits


def has_row(title, values):
  return any(
    len(shown) == len(values) and all(map(rounded, values, shown))
    for shown in readme_cells(title)
  )


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
  rows = records("quality")[part]["rows"].values()
  for title, row in zip(titles, rows, strict=True):
    metrics = row["test"]["metrics"]
    of = lambda *names, m=metrics: [m[name]["samples"] for name in names]
    calls = [] if part in ("digits", "methods") else [row["test"]["calls"]]
    values = [*calls, *of("frechet"), metrics["frechet"]["spread"]]
    values += of("kid", "coverage", "accuracy", "nearest_10", "nearest_50")
    assert has_row(title, values + of("nearest_90", "copies")), title


def test_readme_critics_maps_and_games():
  mean = lambda values, name: statistics.fmean(v[name] for v in values)
  critics = {
    "gradient": "gradient penalty",
    "lipschitz": "one-sided penalty",
    "orthogonal": "orthogonal, sorting",
    "cones": "mix of cones",
  }
  cells = records("w1")["cells"]
  plain = ["D2 N4", "D16 N4", "D16 N64", "D128 N64"]
  columns = [*plain, "D16 N64 swapped", "D128 N64 swapped"]
  for method, title in critics.items():
    found = [cells[column][method] for column in columns]
    pairs = [(mean(v, "cosine"), mean(v, "cpu")) for v in found]
    assert has_row(title, [value for pair in pairs for value in pair]), title
  maps = {
    "linear": "linear map",
    "w2gn": "W2GN",
    "max_min": "max-min",
    "makkuva": "Makkuva's minimax",
    "semi_dual": "semi-dual with Newton's conjugates",
  }
  cells = records("w2")["cells"]
  for method, title in maps.items():
    found = [mean(column[method], "uvp") for column in cells.values()]
    assert has_row(title, found), title
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
  (cells,) = records("ring")["cells"].values()
  for method, title in games.items():
    modes = [seed["modes"] for seed in cells[method]]
    assert has_row(title, [*modes, mean(cells[method], "good")]), title


def claims():
  """Sentences of README made from the records."""
  quality = records("quality")
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
  errors = records("peers")["error"]["rows"]
  of = {peers.label(row): row["rmse"] for row in errors}
  ours, peer = of["jaxgen rk4"], of["torchdiffeq rk4"]
  wins = [peer[grid][n] < ours[grid][n] for grid in ours for n in ours[grid]]
  yield f"Kutta's 3/8 rule, in {sum(wins)} of {len(wins)} columns"
  number = sum(row["library"] == "jaxgen" for row in errors)
  yield f"of our {number} rows has an error equal to that of the best of their"
  cells = records("tong")
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
