"""The rules of docs/design.md for experiments/ and benchmarks/.

Files under 300 lines (scripts: up to 350), functions under 60; records and
groups of settings instead of base classes; the layers of experiments/.
"""

import ast
import pathlib

import pytest

from experiments import settings
from tests import rules

HOME = pathlib.Path(__file__).parents[1]
GROUPS = [name for name in vars(settings) if name[0].isupper()]
EXPERIMENTS, BENCHMARKS = HOME / "experiments", HOME / "benchmarks"

# Package of experiments/: what it may import of experiments/, beside jaxgen and
# itself; `script` is a file that a user runs.
LAYERS = {
  "script": {"recipes", "settings", "lib", "pictures", "experiment"},
  "recipes": {"lib", "experiment"},
  "experiment": {"lib.datasets"},
  "settings": {"lib.choices"},
  "lib": {"settings", "pictures", "experiment"},
  "pictures": {"lib.datasets", "lib.quality", "experiment"},
}


def layer_of(file):
  """lib for experiments/lib/run.py, script for experiments/edm.py."""
  first = file.relative_to(EXPERIMENTS).parts[0].removesuffix(".py")
  return first if first in LAYERS else "script"


def import_faults(source, layer, name=""):
  """Imports within experiments/ that the layer may not have.

  Only lib/scripts.py imports scripts by their names, and lib/functions.py
  functions of the user's.
  """
  faults, allowed = [], LAYERS[layer]
  for full, line, _ in rules.imports(ast.parse(source)):
    top, *rest = full.split(".")
    if top == "benchmarks":
      faults.append(f"line {line}: {layer} imports {full}")
    if top != "experiments":
      continue
    fine = rest and rest[0] == layer and layer != "script"
    fine = fine or {".".join(rest[:n]) for n in (1, 2)} & allowed
    if not fine:
      faults.append(f"line {line}: {layer} imports {full}")
  calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
  for node in calls:
    name_of = rules.called(node)
    dynamic = name_of == "__import__" or "importlib" in name_of
    if dynamic and name not in ("lib/scripts.py", "lib/functions.py"):
      faults.append(f"line {node.lineno}: imports by {name_of}")
  return faults


@rules.every_file(EXPERIMENTS)
def test_source_of_experiments(file):
  source, layer = file.read_text(), layer_of(file)
  name = str(file.relative_to(EXPERIMENTS))
  assert import_faults(source, layer, name) == []
  assert rules.size_faults(source, 350 if layer == "script" else 299) == []
  groups = GROUPS if name == "settings.py" else ()
  if layer == "script":
    groups = [f"settings.{group}" for group in GROUPS]
    groups += ["bottlenecks.Settings"]
  assert rules.class_faults(source, groups) == []


@rules.every_file(BENCHMARKS)
def test_source_of_benchmarks(file):
  source = file.read_text()
  assert rules.size_faults(source) == [] and rules.class_faults(source) == []


@pytest.mark.parametrize(
  "layer, source",
  [
    ("lib", "from experiments import edm"),
    ("lib", "from experiments.recipes import diffusion"),
    ("lib", "def f():\n  import experiments.recipes.maps"),
    ("lib", "import importlib\nimportlib.import_module(name)"),
    ("recipes", "from experiments.pictures import figures"),
    ("recipes", "from experiments import gan"),
    ("pictures", "from experiments.lib import run"),
    ("pictures", "from experiments.lib import datasets, averages"),
    ("settings", "from experiments.lib import checks"),
    ("script", "from experiments import edm"),
    ("script", "from benchmarks import bits"),
  ],
)
def test_import_check_refuses(layer, source):
  assert import_faults(source, layer)


def test_import_check_accepts():
  for layer, source in [
    ("script", "from experiments import settings\nimport jaxgen"),
    ("script", "from experiments.experiment import Times"),
    ("recipes", "from experiments.lib import averages\nimport jax"),
    ("pictures", "from experiments.lib.datasets import Data"),
    ("lib", "from experiments.pictures import sheets"),
  ]:
    assert import_faults(source, layer) == []
  source = "importlib.import_module(name)"
  assert import_faults(source, "lib", "lib/scripts.py") == []


def test_size_check():
  assert rules.size_faults("\n" * 300) and not rules.size_faults("\n" * 299)
  body = lambda n: "def f():\n" + "  x = 1\n" * (n - 1)
  assert rules.size_faults(body(60)) and not rules.size_faults(body(59))


def test_class_check():
  for base in ("Solver", "abc.ABC", "dict", "nn.Dense"):
    assert rules.class_faults(f"class A({base}):\n  pass")
  for base in ("NamedTuple", "typing.Protocol", "nn.Module", "Exception"):
    assert not rules.class_faults(f"class A({base}):\n  pass")
