"""matplotlib.pyplot, drawing into files, imported when something is drawn."""

from typing import Any


def __getattr__(name: str) -> Any:
  import matplotlib

  matplotlib.use("agg")
  from matplotlib import pyplot

  return getattr(pyplot, name)
