"""Grids: ends, order, domain, spacing and refusals."""

import contextlib
import math

import jax
import numpy as np
import pytest

from benchmarks import mixture
from jaxgen import paths, samplers

GRIDS = ("karras", "log_snr", "uniform")


def _grid(name):
  return getattr(samplers.grids, name)


def _precision(x64):
  return jax.enable_x64(True) if x64 else contextlib.nullcontext()


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("path_name", mixture.NAMES)
def test_ends_order_and_domain(path_name, x64):
  path = mixture.jaxgen_path(path_name)
  low, high = (mixture.time(path_name, ratio) for ratio in (0.002, 80.0))
  for name in GRIDS:
    with _precision(x64):
      times = _grid(name)(path, 18)
      assert times.dtype == ("float64" if x64 else "float32")
      times = np.asarray(times)
    assert times.shape == (19,)
    assert (np.diff(times) < 0).all(), name
    assert times.min() >= path.t_min and times.max() <= path.t_max, name
    # cosine's time subtracts its offset: one digit at the data end.
    tolerance = 1e-9 if x64 else 1e-5 if path_name == "cosine" else 2e-6
    np.testing.assert_allclose(times[[0, -1]], [high, low], rtol=tolerance)


@pytest.mark.parametrize("path_name", ["vp", "linear"])
def test_spacing(path_name):
  s, path = mixture.scales(path_name), mixture.jaxgen_path(path_name)
  with jax.enable_x64(True):
    times = {name: np.asarray(_grid(name)(path, 9, 0.1, 7.0)) for name in GRIDS}
  ratio = lambda t: s.sigma(t) / s.alpha(t)
  gaps = {
    "log_snr": np.diff(np.log(ratio(times["log_snr"]))),
    "karras": np.diff(ratio(times["karras"]) ** (1 / 7)),
    "uniform": np.diff(times["uniform"]),
  }
  for name, gap in gaps.items():
    np.testing.assert_allclose(gap, gap[0], rtol=1e-9, err_msg=name)
    ends = ratio(times[name][[0, -1]])
    np.testing.assert_allclose(ends, [7.0, 0.1], rtol=1e-9, err_msg=name)


def test_one_step():
  for name in GRIDS:
    times = np.asarray(_grid(name)(paths.linear(), 1, 0.25, 4.0))
    np.testing.assert_allclose(times, [0.8, 0.2], rtol=1e-6)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
  "bad, word",
  [
    (dict(num_steps=0), "num_steps"),
    (dict(num_steps=-3), "num_steps"),
    (dict(ratio_min=2.0, ratio_max=1.0), "ratio_min"),
    (dict(ratio_min=1.0, ratio_max=1.0), "ratio_min"),
    (dict(ratio_min=0.0), "ratio_min"),
    (dict(ratio_min=-1.0), "ratio_min"),
    (dict(ratio_max=math.inf), "ratio_max"),
    (dict(ratio_max=math.nan), "ratio_max"),
  ],
)
def test_refusals(name, bad, word):
  with pytest.raises(ValueError, match=word) as error:
    _grid(name)(paths.vp(), **(dict(num_steps=4) | bad))
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("rho", [0.0, -7.0, math.nan])
def test_karras_refuses_rho(rho):
  with pytest.raises(ValueError, match="rho: expected a positive number"):
    samplers.grids.karras(paths.edm(), 4, rho=rho)
