"""What many tests expect of a call."""

from collections.abc import Callable
from typing import Any

import pytest


def error(match: str, call: Callable, /, *args: Any, **kwargs: Any) -> str:
  """The ValueError of call(*args, **kwargs): one line, which matches."""
  with pytest.raises(ValueError, match=match) as caught:
    call(*args, **kwargs)
  said = str(caught.value)
  assert "\n" not in said
  return said
