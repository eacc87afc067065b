"""Defaults of training are those that its docs give."""

from jaxgen.training import checkpoint, logging, sharding, step
from tests import defaults


def test_of_training():
  items = "state", "ema", "extras"
  defaults.check(checkpoint.saver, items=items, wait=False)
  defaults.check(logging.progress, step=0)
  defaults.check(sharding.split, axis=0)
  defaults.check(sharding.longest_axis, min_size=512)
  defaults.check(step.Turn, num_steps=1)
