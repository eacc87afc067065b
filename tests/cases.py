"""Every path, prediction and weight, for tests that go through them all."""

import pytest

from jaxgen import levels, paths, predictions

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


def weights(path):
  """Every weight of levels, on the squared error of the data."""
  return (
    levels.uniform_weight,
    levels.edm_weight(path, SD),
    levels.min_snr_weight(path),
    levels.sigmoid_weight(path),
    levels.elbo_weight(path, levels.uniform_density(path)),
    levels.elbo_weight(path, levels.logit_normal_density(path)),
  )
