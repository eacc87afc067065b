"""Defaults are the published ones, or those that the docs give."""

from jaxgen import couplings, diffusion_bound, levels, paths
from tests import defaults

# Karras et al. 2022, arXiv:2206.00364, table 1.
EDM = dict(ratio_min=0.002, ratio_max=80.0)


def test_of_paths_and_levels():
  defaults.check(paths.Path, t_min=0.0, t_max=1.0)
  defaults.check(paths.edm, t_min=0.002, t_max=80.0)
  # Song et al. 2021, arXiv:2011.13456, appendix C.
  defaults.check(paths.vp, beta_min=0.1, beta_max=20.0)
  # Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17.
  defaults.check(paths.cosine, offset=0.008)
  for function in (
    levels.uniform,
    levels.stratified,
    levels.uniform_density,
    diffusion_bound.continuous,
  ):
    defaults.check(function, **EDM)
  # Karras et al. 2022, table 1: P_mean and P_std.
  defaults.check(levels.log_normal, mean=-1.2, std=1.2, **EDM)
  # Esser et al. 2024, arXiv:2403.03206: mean 0, deviation 1.
  defaults.check(levels.logit_normal, mean=0.0, std=1.0, **EDM)
  defaults.check(levels.logit_normal_density, mean=0.0, std=1.0, **EDM)
  # Hang et al. 2023, arXiv:2303.09556: gamma 5.
  defaults.check(levels.min_snr_weight, gamma=5.0)
  defaults.check(levels.sigmoid_weight, bias=0.0)


def test_of_couplings_and_bounds():
  defaults.check(couplings.conditional, ratio=0.05)
  defaults.check(diffusion_bound.levels, num_draws=8)
  defaults.check(diffusion_bound.continuous, num_cells=64)
  defaults.check(diffusion_bound.discrete, num_draws=2)
