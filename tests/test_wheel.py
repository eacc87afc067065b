"""The wheel: its own dependencies alone train and sample a toy."""

import pathlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import parser

import pytest
from packaging import requirements

ROOT = pathlib.Path(__file__).parents[1]
CORE = {"jax", "flax", "optax", "chex", "jaxtyping"}
OPTIONAL = ["orbax", "sklearn", "tyro", "matplotlib", "rich"]
OPTIONAL += ["tensorflow_datasets", "grain", "ott", "diffrax", "scipy"]

TRAIN = """
import jax, jax.numpy as jnp, optax
import jaxgen
from jaxgen import fields, levels, paths, predictions, samplers
from jaxgen.data import toy
from jaxgen.losses import denoising
from jaxgen.models import mlp

print("from", jaxgen.__file__)
path, target = paths.linear(), predictions.velocity
net = mlp.MLP(features=(32, 32))
law = toy.eight_gaussians(radius=1.0, std=0.1)
init_key, train_key, sample_key = jax.random.split(jax.random.key(0), 3)

def loss_fn(params, key):
  data_key, t_key, noise_key = jax.random.split(key, 3)
  batch = jax.vmap(law.sample)(jax.random.split(data_key, 256))
  t = levels.logit_normal(t_key, path, (len(batch),))
  noise = jax.random.normal(noise_key, batch.shape)
  def loss(data, noise, t):
    predict_fn = lambda x_t, t: net.apply(params, x_t, t)
    return denoising.denoising(predict_fn, data, noise, t, path=path,
                               prediction=target, weight=levels.uniform_weight)
  return jax.vmap(loss)(batch, noise, t).mean()

optimizer = optax.adam(3e-3)

@jax.jit
def step(params, state, key):
  loss, grads = jax.value_and_grad(loss_fn)(params, key)
  updates, state = optimizer.update(grads, state)
  return optax.apply_updates(params, updates), state, loss

params = net.init(init_key, jnp.zeros(2), jnp.zeros(()))
state, losses = optimizer.init(params), []
for number in range(100):
  key = jax.random.fold_in(train_key, number)
  params, state, loss = step(params, state, key)
  losses.append(float(loss))
first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
assert last < 0.9 * first, (first, last)

field = fields.from_prediction(
    lambda x, t: net.apply(params, x, t), path, target)
times = samplers.grids.karras(path, num_steps=8)

@jax.jit
@jax.vmap
def draw(key):
  noise_key, solver_key = jax.random.split(key)
  x = path.sigma(times[0]) * jax.random.normal(noise_key, (2,))
  x = samplers.integrate(samplers.heun(), field, x, times, solver_key)
  return field(x, times[-1]).data

samples = draw(jax.random.split(sample_key, 64))
assert samples.shape == (64, 2) and jnp.all(jnp.isfinite(samples))
assert jnp.std(samples) > 0.1
"""

# Flax brings some of the optional packages along for itself; jaxgen, loaded
# after it, must read none of them.
IMPORTS = f"""
import builtins, importlib, pkgutil, sys
import chex, flax.linen, jax, jaxtyping, optax

asked, real = set(), builtins.__import__
def watch(name, globals=None, *rest):
  if (globals or {{}}).get("__name__", "").split(".")[0] == "jaxgen":
    asked.add(name.split(".")[0])
  return real(name, globals, *rest)
builtins.__import__ = watch

import jaxgen
skipped = ("jaxgen.training",)  # needs its extra
names = [m.name for m in pkgutil.walk_packages(jaxgen.__path__, "jaxgen.")]
for name in names:
  if not name.startswith(skipped):
    importlib.import_module(name)
for name in ("state", "step", "ema", "loop"):
  importlib.import_module("jaxgen.training." + name)
assert {{"jax", "flax", "jaxgen"}} <= asked, asked
assert not asked & set({OPTIONAL!r}), asked
print(len(names), "modules")
"""

EXTRA = """
from jaxgen.data import digits
try:
  digits.load("train")
except ImportError as error:
  print(error)
"""


def _metadata(wheel):
  with zipfile.ZipFile(wheel) as file:
    names = file.namelist()
    (name,) = [n for n in names if n.endswith(".dist-info/METADATA")]
    return names, parser.Parser().parsestr(file.read(name).decode())


def _call(*command, cwd):
  result = subprocess.run(
    [str(part) for part in command], cwd=cwd, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stdout + result.stderr
  return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """Built from a copy, which leaves nothing in the repository."""
  directory = tmp_path_factory.mktemp("wheel")
  copy = directory / "source"
  ignore = shutil.ignore_patterns("__pycache__")
  shutil.copytree(ROOT / "jaxgen", copy / "jaxgen", ignore=ignore)
  for name in ("pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, copy)
  pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
  _call(*pip, "wheel", ".", "--no-deps", "-w", directory, cwd=copy)
  (built,) = directory.glob("*.whl")
  return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
  """A fresh environment with the wheel and what it brings."""
  directory = tmp_path_factory.mktemp("environment")
  _call(sys.executable, "-m", "venv", directory / "venv", cwd=directory)
  fresh = directory / "venv" / "bin" / "python"
  pip = [fresh, "-m", "pip", "--disable-pip-version-check", "-q"]
  _call(*pip, "install", wheel, cwd=directory)
  return fresh


def _run(python, code, cwd):
  return _call(python, "-I", "-c", code, cwd=cwd)


def test_the_wheel_depends_on_the_core_only(wheel):
  names, metadata = _metadata(wheel)
  needed = map(requirements.Requirement, metadata.get_all("Requires-Dist"))
  assert {need.name for need in needed if need.marker is None} == CORE
  tops = {name.split("/")[0] for name in names}
  assert {top for top in tops if not top.endswith(".dist-info")} == {"jaxgen"}
  sources = {
    str(path.relative_to(ROOT)) for path in (ROOT / "jaxgen").rglob("*.py")
  }
  assert sources <= set(names)


def test_the_wheel_trains_and_samples_a_toy(python, tmp_path):
  printed = _run(python, TRAIN, tmp_path)
  assert str(python.parent.parent) in printed  # not the repository's own


def test_the_core_imports_no_extra(python, tmp_path):
  assert "modules" in _run(python, IMPORTS, tmp_path)


def test_a_missing_extra_is_one_line(python, tmp_path):
  printed = _run(python, EXTRA, tmp_path)
  assert len(printed.splitlines()) == 1
  assert "pip install 'jaxgen[data]'" in printed


def _parsed(lines):
  found = [requirements.Requirement(line) for line in lines]
  return {need.name: str(need.specifier) for need in found}


def test_the_two_lists_of_requirements_agree():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  extras = project["optional-dependencies"]
  declared = list(project["dependencies"])
  for lines in extras.values():
    declared += lines
  own = [line for line in declared if not line.startswith("jaxgen[")]
  text = (ROOT / "requirements.txt").read_text().splitlines()
  listed = _parsed(line for line in text if line and not line.startswith("#"))
  assert _parsed(own).items() <= listed.items()
  assert _parsed(project["dependencies"]).keys() == CORE
  for name, specifier in listed.items():
    bounds = sorted(part[0] for part in specifier.split(","))
    assert bounds == ["<", ">"], f"{name}{specifier}: a lower bound and a cap"
