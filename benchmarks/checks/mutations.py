"""Single-token changes of Python source, sampled by a seed, and their tests.

A site is a token that can be changed: an arithmetic, comparison or Boolean
operator, a unary minus, a `not`, a number, True or False, a slice 1: or :-1,
or a name with a sibling (min and max, zeros_like and ones_like, alpha and
sigma, data and noise). Docstrings, comments, annotations, imports and raise
statements (error texts) have no sites. All sites are equally likely, and so are
all changes of a site.
"""

import ast
import collections
import functools
import io
import itertools
import pathlib
import random
import re
import tokenize
import tomllib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]

_TABLES = tomllib.loads((HERE / "mutations.toml").read_text())
MIRRORS, COMPARISONS = _TABLES["mirrors"], _TABLES["comparisons"]
ARITHMETIC = {old: (new,) for old, new in _TABLES["arithmetic"].items()}
ASSIGNMENTS = {f"{old}=": (f"{new}=",) for old, (new,) in ARITHMETIC.items()}
BOOLEAN = {"and": ("or",), "or": ("and",)}
PAIRS = [pair.split() for pair in _TABLES["siblings"]]
SIBLINGS = {a: (b,) for pair in PAIRS for a, b in (pair, pair[::-1])}
ARGUMENTS = {"data": "noise", "noise": "data"}
BUILTINS = {"min", "max", "any", "all"}
SKIPPED = (ast.Import, ast.ImportFrom, ast.Raise, ast.JoinedStr)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Site(NamedTuple):
  """A token that can be changed."""

  file: str  # below the root, "jaxgen/paths.py"
  function: str  # innermost function or class that holds it, "" at the top
  line: int  # from 1
  column: int  # from 0, in characters
  old: str
  options: tuple[str, ...]  # what may replace it


class Mutant(NamedTuple):
  """A site and its change; before and after are the stripped line."""

  file: str
  function: str
  line: int
  column: int
  old: str
  new: str
  before: str
  after: str

  def key(self) -> tuple[str, str, str, str]:
    """What identifies the change when line numbers move."""
    return self.file, self.function, self.before, self.after


def mutate(source: str, site: Site | Mutant, new: str) -> str:
  """The source with the site's token replaced."""
  lines = source.splitlines(keepends=True)
  row, start = lines[site.line - 1], site.column
  lines[site.line - 1] = row[:start] + new + row[start + len(site.old) :]
  return "".join(lines)


def mutants(source: str, site: Site) -> list[Mutant]:
  """Every change of a site that is still Python."""
  found = []
  line = lambda text: text.splitlines()[site.line - 1].strip()
  for new in site.options:
    changed = mutate(source, site, new)
    try:
      ast.parse(changed)
    except SyntaxError:
      continue
    found.append(Mutant(*site[:5], new, line(source), line(changed)))
  return found


def sites(source: str, file: str) -> list[Site]:
  """The tokens of a file that can be changed, in their order."""
  text = source.splitlines()
  tokens: dict[int, list] = collections.defaultdict(list)
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type in (tokenize.OP, tokenize.NAME):
      tokens[token.start[0]].append(token)

  def place(line, column):
    return line, len(text[line - 1].encode()[:column].decode())

  def operator(left, right, table):
    """(start, old, options) of what is between two nodes; None: no option."""
    start = place(left.end_lineno, left.end_col_offset)
    end = place(right.lineno, right.col_offset)
    near = (t for line in range(start[0], end[0] + 1) for t in tokens[line])
    inside = [t for t in near if start <= t.start and t.end <= end]
    found = [t for t in inside if t.string not in "()"]
    old = " ".join(t.string for t in found)
    return (found[0].start, old, table[old]) if old in table else None

  def read(node, names):
    """(start, old, options) of the node's own tokens."""
    start = place(node.lineno, node.col_offset)
    line, end = place(node.end_lineno, node.end_col_offset)
    match node:
      case ast.BinOp(left, _, right):
        yield operator(left, right, ARITHMETIC)
      case ast.AugAssign(left, _, right):
        yield operator(left, right, ASSIGNMENTS)
      case ast.BoolOp(_, values):
        for left, right in itertools.pairwise(values):
          yield operator(left, right, BOOLEAN)
      case ast.Compare(first, _, others):
        for left, right in itertools.pairwise([first, *others]):
          yield operator(left, right, COMPARISONS)
      case ast.UnaryOp(ast.USub() | ast.Not() as op):
        yield start, "-" if isinstance(op, ast.USub) else "not", ("",)
      case ast.Constant(bool() as value):
        yield start, str(value), (str(not value),)
      case ast.Constant(int() | float() as value):
        yield start, text[line - 1][start[1] : end], _numbers(value)
      case ast.Slice(ast.Constant(1), None, None):
        yield start, "1:", (":-1",)
      case ast.Slice(None, ast.UnaryOp(ast.USub(), ast.Constant(1)), None):
        yield start, ":-1", ("1:",)
      case ast.Attribute(_, name, ast.Load()) if name in SIBLINGS:
        yield (line, end - len(name)), name, SIBLINGS[name]
      case ast.Name(name, ast.Load()) if {name, ARGUMENTS.get(name)} <= names:
        yield start, name, (ARGUMENTS[name],)
      case ast.Call(ast.Name(name)) if name in BUILTINS - names:
        yield start, name, SIBLINGS[name]

  found: list[Site] = []
  for node, function, names in _walk(ast.parse(source), "", frozenset()):
    if hasattr(node, "lineno"):
      for start, old, options in filter(None, read(node, names)):
        found.append(Site(file, function, *start, old, tuple(options)))
  return sorted(found)


def _numbers(value):
  """What replaces a number: one more, or 1 % more; 0 too, for 1."""
  if isinstance(value, int):
    return ("0", "2") if value == 1 else (f"{value + 1}",)
  if value == 0:
    return (f"{value + 1}",)
  near = f"{float(f'{value * 1.01:.12g}')}"
  return ("0.0", near) if value == 1 else (near,)


def _walk(node, function, names) -> Iterator[tuple[ast.AST, str, frozenset]]:
  """(node, function, argument names) of all code that may be changed."""
  if isinstance(node, SKIPPED):
    return
  yield node, function, names
  if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
    function = f"{function}.{node.name}".lstrip(".")
  if isinstance(node, (*FUNCTIONS, ast.Lambda)):
    given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    names = names | {argument.arg for argument in given}
  for field, value in ast.iter_fields(node):
    if field not in ("annotation", "returns"):
      for child in value if isinstance(value, list) else [value]:
        if isinstance(child, ast.AST):
          yield from _walk(child, function, names)


def every_site(root: pathlib.Path = ROOT) -> list[Site]:
  """The sites of jaxgen/."""
  files = sorted(root.glob("jaxgen/**/*.py"))
  return [
    site
    for file in files
    for site in sites(file.read_text(), str(file.relative_to(root)))
  ]


def draw(seed: int, root: pathlib.Path = ROOT) -> Iterator[Mutant]:
  """Mutants of jaxgen/, one of every site, in the order of a seed."""
  random_state, found = random.Random(seed), every_site(root)
  for site in random_state.sample(found, len(found)):
    possible = mutants((root / site.file).read_text(), site)
    if possible:
      yield random_state.choice(possible)


def of_functions(names: Sequence[str], root: pathlib.Path) -> Iterator[Mutant]:
  """All mutants of functions, module.function, and of those inside them."""
  for site in every_site(root):
    dotted = site.file.removesuffix(".py").replace("/", ".")
    place = f".{dotted}.{site.function}."
    if any(f".{name}." in place for name in names):
      yield from mutants((root / site.file).read_text(), site)


def of_lines(text: str, root: pathlib.Path) -> Iterator[Mutant]:
  """The mutants whose lines, but for their numbers, are in a text of `line`."""
  bare = lambda text: re.sub(r"(?m)^([^:]*):\d+", r"\1", text).splitlines()
  wanted = set(bare(text))
  for site in every_site(root):
    for mutant in mutants((root / site.file).read_text(), site):
      if {*bare(line(mutant))} <= wanted:
        yield mutant


def line(mutant: Mutant) -> str:
  """The place of a mutant and its change."""
  change = f"{mutant.old!r} -> {mutant.new!r}"
  return f"{mutant.file}:{mutant.line} {change}  {mutant.before}"


def equivalents() -> dict[tuple, str]:
  """{key of a mutant: one line that proves that it changes nothing}."""
  stored = tomllib.loads((HERE / "equivalent_mutants.toml").read_text())
  fields = ("file", "function", "before", "after")
  return {
    tuple(row[f] for f in fields): row["proof"] for row in stored["mutant"]
  }


def tests_of(file: str, root: pathlib.Path = ROOT) -> list[str]:
  """The mirrored tests of a module, then those of the folder that import it.

  Raises:
    ValueError: the module has no mirrored test.
  """
  module = pathlib.PurePath(file).relative_to("jaxgen")
  mirror = module.with_name(f"test_{module.name}")
  first = [f"tests/{name}" for name in MIRRORS.get(str(module), (mirror,))]
  for name in first:
    if not (root / name).exists():
      raise ValueError(f"{file}: expected its tests in {name}, add to MIRRORS")
  dotted = ".".join(("jaxgen", *module.with_suffix("").parts))
  wanted = {dotted, "jaxgen.samplers"} if ".samplers." in dotted else {dotted}
  others = [
    str(path.relative_to(root))
    for path in sorted((root / "tests" / module.parent).glob("test_*.py"))
    if wanted & _imported(path)
  ]
  return first + [name for name in others if name not in first]


@functools.cache
def _imported(path):
  """The modules that a test imports; jaxgen.samplers is its folder's index."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom):
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
    elif isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
  return found
