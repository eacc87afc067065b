"""The scripts of runs: names, digests of their texts, and importing them.

A script is imported only from experiments/ or from a given path.
"""

import hashlib
import importlib
import importlib.util
import pathlib
import sys
from typing import Any

# Names in config.json.
SCRIPT, DIGEST = "experiment", "script_digest"
HERE = pathlib.Path(__file__).parent.parent


def warn_if_changed(path: Any, record: dict[str, Any], found: str) -> None:
  """Prints a line if the script has changed since the run began."""
  if record.get(DIGEST, found) != found:
    print(
      f"{path}: {record[SCRIPT]} has changed since this run began",
      file=sys.stderr,
    )


def of_run(
  record: dict[str, Any], run_dir: Any, path: str | None = None
) -> Any:
  """Imports the script of a run.

  Args:
    record: the contents of config.json.
    run_dir: the run directory, for errors.
    path: the script's file, required for scripts outside experiments/.

  Raises:
    ValueError: the script is not in experiments/ and no path is given; or the
      path is another script.
  """
  known = str(record.get(SCRIPT))
  ours = {f"experiments.{file.stem}" for file in HERE.glob("[a-z]*.py")}
  if path is None and known not in ours:
    raise ValueError(
      f"{run_dir}: its script {known!r} is not in experiments/; give its path,"
      " --script PATH"
    )
  file = pathlib.Path(path or HERE / f"{known.removeprefix('experiments.')}.py")
  if path is not None and name(file) != known:
    raise ValueError(f"script: expected the file of {known}, got {path}")
  warn_if_changed(run_dir, record, digest(file))
  module = importlib.import_module(known) if path is None else load(file)
  if not hasattr(module, "experiment"):
    raise ValueError(f"{run_dir}: its script {known!r} trains no model")
  return module


def load(file: pathlib.Path) -> Any:
  """The module of a file, imported once per process under a unique name."""
  own = f"jaxgen_script_{digest(file)}"
  if own not in sys.modules:
    spec = importlib.util.spec_from_file_location(own, file)
    if spec is None or spec.loader is None:
      raise ValueError(f"script: expected a Python file, got {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[own] = module
    try:
      spec.loader.exec_module(module)
    except BaseException:
      del sys.modules[own]
      raise
  return sys.modules[own]


def name(file: str | pathlib.Path) -> str:
  """The name of a script in config.json: experiments.NAME, or the file name."""
  file = pathlib.Path(file).resolve()
  inside = file.parent == HERE.resolve()
  return f"experiments.{file.stem}" if inside else file.name


def digest(file: str | pathlib.Path) -> str:
  """A hash of a script's text."""
  content = pathlib.Path(file).read_bytes()
  return hashlib.sha256(content).hexdigest()[:16]
