"""Defaults of samplers are the published ones, or those that the docs give."""

import math

from jaxgen import samplers
from tests import defaults

# Karras et al. 2022, arXiv:2206.00364, table 1.
EDM = dict(ratio_min=0.002, ratio_max=80.0)


def test_of_grids():
  grids = samplers.grids
  defaults.check(grids.karras, rho=7.0, **EDM)
  defaults.check(grids.log_snr, **EDM)
  defaults.check(grids.uniform, **EDM)
  # Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17.
  defaults.check(grids.cosine, offset=0.008, **EDM)
  # Jabri et al. 2022, arXiv:2212.11972, appendix B.
  defaults.check(grids.sigmoid, start=-3.0, end=3.0, tau=1.0, **EDM)
  # Esser et al. 2024, arXiv:2403.03206, section 5.3.2.
  defaults.check(grids.shifted, shift=3.0, **EDM)
  search = dict(num_candidates=64, num_refinements=10, chunk=128)
  defaults.check(grids.fitted, **search, **EDM)


def test_of_solvers():
  defaults.check(samplers.ddim, eta=0.0)
  defaults.check(samplers.dpmpp_sde, eta=1.0)
  defaults.check(samplers.dpmpp_2m_sde, eta=1.0)
  defaults.check(samplers.unipc, noise=False, b1=False)
  defaults.check(samplers.baoab, friction=1.0)
  # Song et al. 2021, arXiv:2011.13456, appendix G.
  defaults.check(samplers.predictor_corrector, num_corrections=1, snr=0.16)
  defaults.check(samplers.annealed, num_corrections=1, snr=0.16)
  # Karras et al. 2022, algorithm 2: no limits, S_noise 1.
  defaults.check(
    samplers.churn, ratio_min=0.0, ratio_max=math.inf, noise_scale=1.0
  )
  limits = dict(rtol=1e-5, atol=1e-5, max_steps=4096)
  defaults.check(samplers.adaptive.integrate, **limits)
