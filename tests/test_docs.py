"""Every Python block of the pages runs; every command parses."""

import argparse
import importlib
import pathlib
import re
import shlex

import pytest

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


def commands():
  for block in blocks("bash"):
    for line in block.values[0].replace("\\\n", " ").splitlines():
      words = shlex.split(line, comments=True)
      while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # NAME=value
        words = words[1:]
      if words:
        yield pytest.param(words, id=" ".join(words)[:60])


@pytest.mark.parametrize("words", list(commands()))
def test_commands_parse(words, monkeypatch, tmp_path):
  """make targets exist; scripts accept the flags, their work replaced."""
  if words[0] == "make":
    assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
    return
  from experiments.lib import build
  from experiments.lib import run as runs

  assert words[:2] == ["python", "-m"]
  monkeypatch.setattr("sys.argv", words[2:])
  seen = []
  if words[2].startswith("benchmarks."):
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser):
      seen.append(parse(parser))
      raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    with pytest.raises(KeyboardInterrupt):
      importlib.import_module(words[2]).main()
    assert len(seen) == 1
    return
  script = importlib.import_module(words[2])
  if hasattr(script, "PRESETS"):
    runs.main(words[2], script.PRESETS, seen.append)
    if hasattr(script, "make_method"):
      data = build.load_data(seen[0])
      script.make_method(build.resolve(seen[0], data), data)
  else:
    monkeypatch.setattr(script, "run", lambda *given: seen.append(given))
    script.main()
  assert len(seen) == 1


def test_links_lead_somewhere():
  for page in PAGES:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
      if "://" not in link:
        assert (page.parent / link).exists(), f"{page.name}: {link}"
