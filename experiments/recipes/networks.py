"""The network of a configuration: U-Net, diffusion transformer or MLP."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.lib import checks, datasets
from jaxgen.models import dit, mlp, padded, unet

MAX_ATTENTION = 32  # largest side, in pixels, of automatic attention


def resolve(config: Any, data: datasets.Data) -> Any:
  """The settings, with the automatic attention of a U-Net as image sizes.

  Automatic attention is at the lowest level, if its longer side is at most
  MAX_ATTENTION pixels.
  """
  if config.attention is not None or _kind(config, data) != "unet":
    return config
  sizes = automatic_attention(data.shape, len(config.multipliers))
  return checks.replace(config, attention=sizes)


def automatic_attention(shape: tuple[int, ...], levels: int) -> tuple[int, ...]:
  """The size of the lowest level of a U-Net, unless it is too large."""
  side = -(-max(shape[:2]) // 2 ** max(levels - 1, 0))
  return (side,) if side <= MAX_ATTENTION else ()


def make(config: Any, data: datasets.Data) -> Any:
  """The configuration's network, for one example.

  Raises:
    ValueError: the network does not fit the data or this machine.
  """
  config = resolve(config, data)
  points = len(data.shape) == 1
  name = _kind(config, data)
  shared = dict(
    num_classes=data.num_classes,
    dropout=config.dropout,
    dtype=jnp.dtype(config.dtype),
  )
  if hasattr(config, "max_frequency"):
    shared["max_frequency"] = config.max_frequency
  if name == "mlp":
    return mlp.MLP(features=(config.width,) * config.num_blocks, **shared)
  if points:
    raise ValueError(
      f"model, data: expected auto or mlp for points, got {name} for"
      f" {config.data}"
    )
  _check_attention(config)
  shared |= dict(
    width=config.width,
    num_heads=config.num_heads,
    implementation=config.attention_implementation,
  )
  model: Any
  if name == "dit":
    multiple, owner = config.patch, "patch"
    model = dit.DiT(depth=config.num_blocks, patch=config.patch, **shared)
  else:
    multiple, owner = 2 ** max(len(config.multipliers) - 1, 0), "multipliers"
    model = image_unet(
      multipliers=config.multipliers,
      num_blocks=config.num_blocks,
      attention=config.attention,
      skips=config.skips,
      **shared,
    )
  with checks.naming(
    config,
    depth="num_blocks",
    num_heads="width, num_heads",
    attention="attention, multipliers, data",
    multiple=f"{owner}, data",
  ):
    model = padded.fit(model, data.shape, multiple)
    model.check(data.shape, None)
  return model


def _kind(config, data):
  """The network's name, with auto replaced."""
  if config.model != "auto":
    return config.model
  return "mlp" if len(data.shape) == 1 else "unet"


def image_unet(width: int, **settings: Any) -> unet.UNet:
  """A U-Net whose groups and embedding fit its width."""
  return unet.UNet(
    width,
    num_groups=_num_groups(width),
    embedding_width=2 * width,
    **settings,
  )


def _num_groups(width):
  """Number of groups of the U-Net's normalisation."""
  groups = min(32, width // 4)
  if not groups or width % groups:
    raise ValueError(
      "width: expected a multiple of 4, and of 32 above 128, for the U-Net's"
      f" groups of channels, got {width}"
    )
  return groups


def _check_attention(config):
  if config.attention_implementation != "cudnn":
    return
  if jax.default_backend() != "gpu" or config.dtype != "bfloat16":
    raise ValueError(
      "attention_implementation, dtype: expected xla, as cudnn needs an NVIDIA"
      f" GPU and bfloat16, got cudnn on {jax.default_backend()} with"
      f" {config.dtype}"
    )
