"""Rules of source text: what it imports and calls, its sizes, its classes."""

import ast

import pytest

BUILDER = "tfds.core.GeneratorBasedBuilder"
BASES = {"NamedTuple", "Protocol", "nn.Module", "Exception", BUILDER}


def every_file(folder):
  """Parametrizes a test by the Python files below a folder."""
  name = lambda file: str(file.relative_to(folder))
  return pytest.mark.parametrize("file", sorted(folder.rglob("*.py")), ids=name)


def imports(node, inside=False):
  """(imported dotted name, line, whether inside a function), all of them."""
  for child in ast.iter_child_nodes(node):
    lazy = inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
    if isinstance(child, ast.Import):
      for alias in child.names:
        yield alias.name, child.lineno, inside
    elif isinstance(child, ast.ImportFrom):
      for alias in child.names:
        name = f"{'.' * child.level}{child.module or ''}.{alias.name}"
        yield name, child.lineno, inside
    else:
      yield from imports(child, lazy)


def called(node):
  """The dotted name of what is called: jnp.zeros, dict, ..."""
  return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def size_faults(source, most=299):
  """Files of more lines than that, functions of 60 lines or more."""
  lines = len(source.splitlines())
  faults = [f"{lines} lines"] if lines > most else []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      length = node.end_lineno - node.lineno + 1
      if length >= 60:
        faults.append(f"line {node.lineno}: {node.name} has {length} lines")
  return faults


def class_faults(source, groups=()):
  """Classes with other bases than BASES and groups, names of dataclasses."""
  allowed = BASES | {*groups}
  return [
    f"line {node.lineno}: {node.name}({ast.unparse(base)})"
    for node in ast.walk(ast.parse(source))
    if isinstance(node, ast.ClassDef)
    for base in node.bases
    if ast.unparse(base).removeprefix("typing.").split("[")[0] not in allowed
  ]
