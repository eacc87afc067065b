"""Whose a run directory is: one configuration's, one process's at a time."""

import pytest

from experiments import edm
from experiments.lib import run as runs

CONFIG = edm.Config(run_dir="")


def _open(path):
  return runs.open_directory(path, CONFIG, edm.MODULE)


def _refused(path, message):
  """Opening says so in a line; whatever was there is as it was."""
  before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
  with pytest.raises(ValueError, match=message) as caught, _open(path):
    pass
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)
  after = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
  assert before == after


def test_a_directory_of_something_else_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("dear to someone")
  _refused(tmp_path, "not a run directory")


def test_a_file_is_refused(tmp_path):
  (tmp_path / "runs").write_text("a file")
  _refused(tmp_path / "runs", "not a run directory")


@pytest.mark.parametrize("text", [b'{"seed": 0', b"[1]", b"", b"\xff\xfe"])
def test_a_damaged_configuration_is_refused(tmp_path, text):
  (tmp_path / "config.json").write_bytes(text)
  _refused(tmp_path, r"config\.json: damaged")


@pytest.mark.parametrize("left", [(), ("lock",), ("lock", "config.json.part")])
def test_a_directory_left_at_once_is_begun(tmp_path, left):
  """By a process killed before it wrote its configuration."""
  for name in left:
    (tmp_path / name).write_text("{")
  with _open(tmp_path) as directory:
    assert runs.read_config(directory)["seed"] == 0
    assert {p.name for p in directory.iterdir()} == {"config.json", "lock"}


def test_a_second_run_in_the_directory_is_refused(tmp_path):
  with _open(tmp_path):
    _refused(tmp_path, "another process is training")
  with _open(tmp_path):  # free again
    (tmp_path / "config.json").unlink()  # as if not written yet
    _refused(tmp_path, "another process is training")
