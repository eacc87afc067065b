"""What the settings of every script have in common."""

import dataclasses
from typing import Any

import jax
import numpy as np

MAX_SEED = 2**32 - 1  # JAX drops the bits above, NumPy rejects them


def settings(config: Any) -> Any:
  """The configuration with Python's numbers for NumPy's and JAX's scalars.

  Raises:
    ValueError: a seed of more than 32 bits, or below 0.
  """
  fields = dataclasses.fields(config)
  values = {field.name: _plain(getattr(config, field.name)) for field in fields}
  if not 0 <= values.get("seed", 0) <= MAX_SEED:
    raise ValueError(
      f"seed: expected 0 to {MAX_SEED} (32 bits), got {values['seed']}"
    )
  return dataclasses.replace(config, **values)


def _plain(value):
  if isinstance(value, tuple):
    return tuple(map(_plain, value))
  scalar = isinstance(value, np.generic | np.ndarray | jax.Array)
  return value.item() if scalar and value.ndim == 0 else value
