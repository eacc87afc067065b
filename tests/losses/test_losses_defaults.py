"""Defaults of losses are the published ones, or those that the docs give."""

from jaxgen.losses import (
  balancing,
  clouds,
  flow_matching,
  perceptual,
  variational,
  wasserstein,
)
from tests import defaults


def test_of_losses():
  for function in (clouds.entropic, clouds.sinkhorn_divergence):
    defaults.check(function, threshold=1e-4, max_iterations=2000)
  defaults.check(flow_matching.brownian, t_max=1.0)
  # Wu et al. 2018, arXiv:1712.01026: p = 6.
  defaults.check(wasserstein.divergence_penalty, power=6.0)
  defaults.check(wasserstein.quadratic, scale=10.0)
  for function in (variational.gaussian, variational.bounded):
    defaults.check(function, bound=7.0)
  defaults.check(variational.loss, beta=1.0)
  # Esser et al. 2021, arXiv:2012.09841, eq. 7: delta = 1e-6.
  defaults.check(balancing.adaptive_weight, delta=1e-6)
  defaults.check(balancing.balanced, scale=1.0, delta=1e-6)
  defaults.check(perceptual.distance, epsilon=1e-6)
