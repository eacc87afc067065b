"""Defaults of metrics are the published ones, or those that the docs give."""

from jaxgen.metrics import kernel, latents, neighbours, sharpness
from tests import defaults


def test_of_metrics():
  draws = dict(num_draws=1, num_splits=200, level=0.95, seed=0)
  defaults.check(kernel.real_interval, **draws)
  # Naeem et al. 2020, arXiv:2002.09797: k = 5.
  defaults.check(neighbours.density_coverage, k=5)
  # Kynkaanniemi et al. 2019, arXiv:1904.06991: k = 3.
  defaults.check(neighbours.precision_recall, k=3)
  # Burda et al. 2016, arXiv:1509.00519: .01.
  defaults.check(latents.active_units, threshold=0.01)
  for function in (sharpness.high, sharpness.sharpness):
    defaults.check(function, cutoff=0.25)
