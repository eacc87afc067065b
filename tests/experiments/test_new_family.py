"""docs/design.md, "Add a family": its script, outside the repository."""

import pathlib
import re

import jax
import numpy as np

from experiments import evaluate, sample
from experiments.lib import averages, datasets, samples
from tests import processes

HOME = pathlib.Path(__file__).parents[2]


def _run(folder, *words):
  env = {"PYTHONPATH": str(HOME), "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg"}
  done = processes.python(*words, cwd=folder, env=env)
  assert done.returncode == 0, done.stderr
  return done.stderr


def test_the_documented_script_is_a_family(tmp_path):
  page = (HOME / "docs/design.md").read_text()
  blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  (text,) = [block for block in blocks if "python mixture.py toy" in block]
  script = tmp_path / "mixture.py"
  script.write_text(text)
  train = "mixture.py", "toy", "--run-dir", "runs/mixture"
  assert "from step 0" in _run(tmp_path, *train)
  run_dir = tmp_path / "runs/mixture"
  assert "from step 400" in _run(tmp_path, *train)  # resumes

  ex = samples.read(run_dir, script=str(script))
  (params, _), data = averages.load(ex), datasets.load(ex.config)
  points = data.split("test")[0]
  assert set(params["model"]) == {"logits", "log_stds", "means"}
  exact = -np.mean(jax.vmap(data.distribution.log_prob)(points))
  last = (run_dir / "metrics.jsonl").read_text().splitlines()[-1]
  assert (
    abs(float(re.search(r'"loss": ([-.\d]+)', last)[1]) - exact) < 0.5
  )  # one Gaussian: 1.6

  how = dict(script=str(script), number=20)
  drawn = sample.run(str(run_dir), sample.Config(**how))
  assert drawn.shape == (20, 2) and np.isfinite(drawn).all()
  how = dict(script=str(script), draws=1, number=500)
  rows = evaluate.run(str(run_dir), evaluate.Config(**how))["metrics"]
  assert rows["coverage"]["samples"] > 0.8
