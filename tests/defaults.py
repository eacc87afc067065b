"""The numbers that a function or module takes when none is given."""

import inspect


def check(function, **expected):
  """The defaults named have these values, of these types."""
  parameters = inspect.signature(function).parameters
  found = {name: parameters[name].default for name in expected}
  typed = lambda table: {name: (type(v), v) for name, v in table.items()}
  assert typed(found) == typed(expected), function
