"""Defaults of data are those that its docs give."""

from jaxgen.data import loaders, pairs, photos, tfds, toy, transport_pairs
from tests import defaults


def test_of_toys():
  # Tong et al. 2023, arXiv:2302.00482: torchcfm's eight Gaussians and moons.
  defaults.check(toy.eight_gaussians, radius=5.0, std=0.562)
  defaults.check(toy.moons, noise=0.2, scale=3.0, shift=-1.0)
  defaults.check(toy.s_curve, noise=0.1, scale=1.5)
  defaults.check(toy.swiss_roll, noise=1.0, scale=0.2)
  defaults.check(toy.checkerboard, num_cells=4, half_width=4.0)
  # Johnson et al. 2016, arXiv:1603.06277: the pinwheel.
  widths = dict(radial_std=0.3, tangential_std=0.1)
  defaults.check(toy.pinwheel, num_arms=5, rate=0.25, scale=2.0, **widths)


def test_of_pairs_of_laws():
  # Korotin et al. 2022, arXiv:2206.07767: L 2.5, power 8.
  defaults.check(transport_pairs.funnels, half_width=2.5, power=8.0)
  defaults.check(transport_pairs.shifted, shift=2.0)
  defaults.check(transport_pairs.scaled, scale=2.0)
  soft = dict(num_planes=8, temperature=1.0, convexity=0.5)
  defaults.check(transport_pairs.log_sum_exp, **soft)


def test_of_files_and_loaders():
  defaults.check(loaders.prefetch, depth=2)
  defaults.check(pairs.batches, num_batches=1)
  defaults.check(photos.load, size=32)
  defaults.check(tfds.load, memory_limit=4_294_967_296)  # 4 GiB
