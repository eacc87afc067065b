"""Python processes of their own."""

import subprocess
import sys
from typing import Any


def python(*arguments: Any, **settings: Any) -> subprocess.CompletedProcess:
  """One that has ended: its code, output and errors."""
  command = [sys.executable, *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True, **settings)
