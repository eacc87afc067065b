"""The rules of docs/design.md that a program can read from the source.

Who may import whom; no mutable or array state at module level; sizes and base
classes as in tests/rules.py. Each check is a function of source text, and is
itself checked on sources that break its rule. test_house_rules.py has those of
experiments/ and benchmarks/.
"""

import ast
import importlib
import pathlib
import sys

import jax
import numpy as np
import pytest

import jaxgen
from tests import rules

ROOT = pathlib.Path(jaxgen.__file__).parent

MATHEMATICS = frozenset(
  "paths predictions levels costs assignment couplings bijectors arrangements"
  " elementwise inversion linear_maps quantizers codebooks estimators outputs"
  " keys dtypes scalars traces truncated dequantisation orders masks nearest"
  " flow_maps manifolds entropic_plans fields token_fields guidance"
  " particles bridge_fields".split()
)
ON_FIELDS = {"guidance", "particles", "bridge_fields"}
CORE = MATHEMATICS - {"fields", "token_fields", *ON_FIELDS}
# Layer: the layers of jaxgen that it may import, beside itself.
LAYERS = {
  **dict.fromkeys(CORE, CORE),
  "fields": CORE,
  "token_fields": CORE,
  **dict.fromkeys(ON_FIELDS, CORE | {"fields"}),
  "losses": CORE,
  "samplers": set(
    "fields token_fields flow_maps manifolds paths predictions keys dtypes"
    " orders outputs".split()
  ),
  "models": set(
    "keys dtypes orders bijectors arrangements elementwise inversion"
    " quantizers".split()
  ),
  "likelihood": MATHEMATICS | {"samplers"},
  "curved_likelihood": MATHEMATICS | {"samplers", "likelihood"},
  "diffusion_bound": MATHEMATICS,
  "metrics": MATHEMATICS | {"samplers", "likelihood"},
  "data": MATHEMATICS,
  "training": {"keys"},
}
ANYWHERE = {"jax", "numpy", "jaxtyping", "chex"}
AT_TOP = {"models": {"flax"}, "training": {"optax", "orbax"}}
# Inside functions only, so that the core runs without them.
INSIDE = {
  "assignment": {"scipy"},
  "couplings": {"scipy", "ott"},
  "samplers": {"diffrax"},
  "likelihood": {"diffrax"},
  "metrics": {"scipy", "sklearn", "threadpoolctl", "ott"},
  "data": {"scipy", "sklearn", "tensorflow_datasets", "PIL", "tokenizers"},
  "training": {"rich", "tensorboardX", "wandb"},
}
COMPREHENSIONS = (ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)
MUTABLE = (ast.List, ast.Dict, ast.Set, *COMPREHENSIONS)
BUILDERS = {"list", "dict", "set", "bytearray", "defaultdict", "Counter"}
ARRAYS = {"jnp", "np", "numpy"}


def layer_of(file):
  """paths for jaxgen/paths.py, losses for jaxgen/losses/denoising.py."""
  return file.relative_to(ROOT).parts[0].removesuffix(".py")


def import_faults(source, layer):
  """Imports that the layer may not have."""
  if layer == "__init__":
    return [
      f"line {line}: {n}" for n, line, _ in rules.imports(ast.parse(source))
    ]
  if layer not in LAYERS:
    return [f"{layer} is not in the table of layers"]
  faults = []
  for name, line, inside in rules.imports(ast.parse(source)):
    top, *rest = name.split(".")
    if top == "jaxgen":
      fine = rest and rest[0] in LAYERS[layer] | {layer}
    else:
      allowed = ANYWHERE | AT_TOP.get(layer, set())
      if inside:
        allowed = allowed | INSIDE.get(layer, set())
      fine = top in allowed or top in sys.stdlib_module_names
    if not fine:
      faults.append(f"line {line}: {layer} imports {name}")
  return faults


def _builds_state(node):
  """Whether evaluating the expression makes a mutable, an array or a key."""
  if isinstance(node, ast.Lambda):
    return False
  name = rules.called(node)
  parts = name.split(".")
  is_array = parts[0] in ARRAYS or name.startswith(("jax.numpy", "jax.random"))
  if isinstance(node, MUTABLE) or parts[-1] in BUILDERS or is_array:
    return True
  if isinstance(node, ast.Subscript):  # Callable[[A], B] is an annotation
    return _builds_state(node.value)
  return any(_builds_state(child) for child in ast.iter_child_nodes(node))


def _statements(body):
  """Statements that run at import, those in classes and branches included."""
  for node in body:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      continue
    yield node
    for inner in ("body", "orelse", "finalbody"):
      yield from _statements(getattr(node, inner, []))


def state_faults(source):
  """Mutable or array values bound when the module is imported."""
  faults = []
  for node in _statements(ast.parse(source).body):
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
      targets = node.targets if isinstance(node, ast.Assign) else [node.target]
      name = ast.unparse(targets[0])
      dunder = name.startswith("__") and name.endswith("__")
      if node.value is not None and not dunder and _builds_state(node.value):
        faults.append(f"line {node.lineno}: {name}")
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Global):
      faults.append(f"line {node.lineno}: {ast.unparse(node)}")
  return faults


CHECKS = {
  "imports": lambda file: import_faults(file.read_text(), layer_of(file)),
  "state": lambda file: state_faults(file.read_text()),
  "size": lambda file: rules.size_faults(file.read_text()),
  "classes": lambda file: rules.class_faults(file.read_text()),
}


@pytest.mark.parametrize("check", CHECKS)
@rules.every_file(ROOT)
def test_source(file, check):
  assert CHECKS[check](file) == []


def live_state(module):
  """Names of a module that hold arrays, keys or mutable containers."""
  kinds = (jax.Array, np.ndarray, dict, list, set, bytearray)
  return [
    name
    for name, value in vars(module).items()
    if isinstance(value, kinds) and not name.startswith("__")
  ]


@rules.every_file(ROOT)
def test_imported_module_holds_no_state(file):
  parts = file.relative_to(ROOT.parent).with_suffix("").parts
  name = ".".join(parts).removesuffix(".__init__")
  assert live_state(importlib.import_module(name)) == []


@pytest.mark.parametrize(
  "layer, source",
  [
    ("paths", "import flax"),
    ("paths", "import scipy.special"),
    ("paths", "def f():\n  from scipy import special"),
    ("paths", "from jaxgen import fields"),
    ("losses", "from jaxgen import samplers"),
    ("losses", "from jaxgen.models import mlp"),
    ("losses", "import flax.linen as nn"),
    ("samplers", "from jaxgen.losses import denoising"),
    ("samplers", "import diffrax"),
    ("models", "from jaxgen import paths"),
    ("models", "import optax"),
    ("training", "from jaxgen.models import mlp"),
    ("training", "from jaxgen import data"),
    ("training", "import rich"),
    ("data", "import tensorflow_datasets as tfds"),
    ("data", "try:\n  import sklearn\nexcept ImportError:\n  pass"),
    ("metrics", "def f():\n  import tensorflow_datasets"),
    ("fields", "from .paths import linear"),
    ("fields", "import jaxgen"),
    ("utils", "import jax"),
    ("__init__", "from jaxgen import paths"),
  ],
)
def test_import_check_refuses(layer, source):
  assert import_faults(source, layer)


@pytest.mark.parametrize(
  "layer, source",
  [
    ("paths", "import jax.scipy\nfrom jax import scipy\nimport math"),
    ("data", "def f():\n  import tensorflow_datasets as tfds"),
    ("couplings", "def f():\n  from scipy import optimize\n  import ott"),
    ("samplers", "from jaxgen import fields\nfrom jaxgen.samplers import ode"),
    ("models", "import flax.linen as nn"),
    ("training", "import optax\nfrom orbax import checkpoint"),
  ],
)
def test_import_check_accepts(layer, source):
  assert import_faults(source, layer) == []


@pytest.mark.parametrize(
  "source",
  [
    "CACHE = {}",
    "CACHE: dict = dict()",
    "X = 1, [2]",
    "X = [i for i in range(3)]",
    "X = {1, 2}",
    "ONE = jnp.ones(3)",
    "KEY = jax.random.key(0)",
    "TABLE = np.arange(3)",
    "TABLE = tuple(np.arange(3))",
    "CACHE = collections.defaultdict(int)",
    "if True:\n  X = []",
    "class A:\n  seen = []",
    "def f():\n  global X\n  X = 1",
  ],
)
def test_state_check_refuses(source):
  assert state_faults(source)


def test_state_check_accepts():
  source = (
    "F = lambda x: [x]\nW = Callable[[int], dict]\n__all__ = ['F']\nX = 1"
  )
  assert state_faults(source + "\ndef f():\n  x = []\n  return x") == []


def test_live_check_refuses():
  module = type(sys)("made_up")
  module.table, module.size = {}, 3
  assert live_state(module) == ["table"]
