"""Every path and every prediction, for tests that go through them all."""

import pytest

from jaxgen import paths, predictions

SD = 0.5
PATHS = {
  "edm": paths.edm(),
  "vp": paths.vp(),
  "cosine": paths.cosine(),
  "linear": paths.linear(),
  "trigonometric": paths.trigonometric(),
}
ROWS = {
  "data": predictions.data,
  "noise": predictions.noise,
  "velocity": predictions.velocity,
  "v": predictions.v,
  "score": predictions.score,
  "edm": predictions.edm(SD),
}
by_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
