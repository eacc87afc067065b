"""No source unpickles: what a stranger left in a file is data, never run."""

import ast
import pathlib

import numpy as np
import pytest

from jaxgen.data import files
from tests import expect

ROOT = pathlib.Path(__file__).parent.parent
FORBIDDEN = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def faults(source):
  """Imports of what unpickles, and leave given to NumPy."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      names = [alias.name for alias in node.names]
      names.append(getattr(node, "module", None) or "")
      yield from FORBIDDEN & {name.split(".")[0] for name in names}
    if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
      if ast.unparse(node.value) != "False":
        yield "allow_pickle"


@pytest.mark.parametrize("folder", ["jaxgen", "experiments", "benchmarks"])
def test_sources(folder):
  found = {
    str(path): list(faults(path.read_text()))
    for path in (ROOT / folder).rglob("*.py")
  }
  assert found and not any(found.values()), found


@pytest.mark.parametrize(
  "source",
  [
    "import pickle",
    "def f():\n  from joblib import load",
    "np.load(path, allow_pickle=True)",
    "np.load(path, allow_pickle=flag)",
  ],
)
def test_faults_are_found(source):
  assert list(faults(source))
  assert not list(faults("np.load(path, allow_pickle=False)"))


class Trap:
  """Unpickling it makes a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_a_planted_archive_is_refused(tmp_path):
  trap = np.array([Trap(tmp_path / "sprung")], object)
  np.savez(tmp_path / "planted.npz", images=trap, labels=trap)
  np.save(tmp_path / "planted.npy", trap)
  for name in ("planted.npz", "planted.npy"):
    expect.error("planted", files.load_npz, str(tmp_path / name))
  assert not (tmp_path / "sprung").exists()
