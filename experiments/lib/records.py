"""Settings of older versions, as this version would store them.

A setting that is new has one value with which a run does what it did before.
A setting whose meaning has changed is translated.
"""

from typing import Any

from experiments.lib import datasets

# Settings that runs of earlier versions lack, with the values that they had.
LATER: dict = dict(guidance=1.0, guidance_interval=None, guide=None, start=None)
LATER |= dict(validate_every=0, metrics_every=0, log_to=[])
LATER |= dict(weight_decay=0.0, accumulate=1, codec=None, kl_weight=1e-3)
LATER |= dict(vocabulary=0, dequantisation="uniform", noise_blocks=4)


def current(record: dict[str, Any]) -> dict[str, Any]:
  """The record of config.json, with the settings of this version.

  Before there was `convert`, image_size (32 by default) was only used for
  photos, and attention (4 by default) was stored even if there was none.
  """
  if "image_size" not in record or "convert" in record:
    return record
  found = record | {"convert": False}
  names = [str(record.get(name)) for name in ("data", "source", "other")]
  if record["image_size"] == 32 or not any(map(_photos, names)):
    found["image_size"] = None
  if "attention" in record and not _attends(record):
    found["attention"] = None
  return found


def _photos(name):
  return name.partition("+")[0] == "photos"


def _attends(record):
  """Whether the network is a U-Net, the only one with the setting attention."""
  if record.get("model") != "auto":
    return record.get("model") == "unet"
  return record.get("data") not in datasets.TOYS
