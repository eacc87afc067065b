"""Settings of older versions, as this version would store them.

A setting that is new has one value with which a run does what it did before.
A setting whose meaning has changed is translated.
"""

from typing import Any

from experiments.lib import datasets


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
