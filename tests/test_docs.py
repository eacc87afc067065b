"""Blocks of the pages run, commands parse, figures are those of the records."""

import argparse
import importlib
import pathlib
import re
import shlex

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import pages
from tests import expect, readme, user_files
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


def test_results_are_what_their_records_make():
  for name in benchmarks.BENCHMARKS:
    if name not in benchmarks.NO_PAGE:
      parts = benchmarks.load(name)[1].tables(readme.records(name))
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
