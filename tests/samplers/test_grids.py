"""Grids: ends, order, domain, spacing and refusals.

The published schedules are written here as functions of their own time; their
inverses, at the noise ratios of a grid, must be uniform.
"""

import math

import jax
import numpy as np
import pytest
from scipy import optimize, special

from jaxgen import paths, samplers
from tests import expect
from tests.truth import mixture

GRIDS = ("karras", "log_snr", "uniform", "cosine", "sigmoid", "shifted")


def _cosine(t, offset=0.008):
  """Nichol and Dhariwal's eq. 17, as sigma / alpha."""
  f = lambda t: math.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
  bar = f(t) / f(0)
  return math.sqrt((1 - bar) / bar)


def _sigmoid(t, start=-3, end=3, tau=1.0):
  """Chen's algorithm 1, without its clipping."""
  low, high = special.expit(start / tau), special.expit(end / tau)
  gamma = high - special.expit((t * (end - start) + start) / tau)
  gamma = gamma / (high - low)
  return math.sqrt((1 - gamma) / gamma)


def _shifted(t, shift=3.0):
  """Esser et al.'s eq. 23 on x_t = (1 - t) data + t noise."""
  t = shift * t / (1 + (shift - 1) * t)
  return t / (1 - t)


SCHEDULES = {"cosine": _cosine, "sigmoid": _sigmoid, "shifted": _shifted}


def _inverse(schedule, ratio):
  """The time of a ratio, by bisection."""
  gap = lambda t: math.log(schedule(t) / ratio)
  return optimize.brentq(gap, 1e-9, 1 - 1e-9, xtol=1e-15, rtol=1e-14)


def _grid(name):
  return getattr(samplers.grids, name)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("path_name", mixture.NAMES)
def test_ends_order_and_domain(path_name, x64):
  path = mixture.jaxgen_path(path_name)
  low, high = (mixture.time(path_name, ratio) for ratio in (0.002, 80.0))
  for name in GRIDS:
    with jax.enable_x64(x64):
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
  for name, schedule in SCHEDULES.items():
    gaps[name] = np.diff([_inverse(schedule, r) for r in ratio(times[name])])
  for name, gap in gaps.items():
    np.testing.assert_allclose(gap, gap[0], rtol=1e-9, err_msg=name)
    ends = ratio(times[name][[0, -1]])
    np.testing.assert_allclose(ends, [7.0, 0.1], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
  "bad, word",
  [
    (dict(num_steps=0), "num_steps: expected at least 1"),
    (dict(num_steps=-1), "num_steps: expected at least 1"),
    (dict(ratio_min=2.0, ratio_max=1.0), "ratio_min"),
    (dict(ratio_min=1.0, ratio_max=1.0), "ratio_min"),
    (dict(ratio_min=0.0), "ratio_min"),
    (dict(ratio_min=-1.0), "ratio_min"),
    (dict(ratio_max=math.inf), "ratio_max"),
    (dict(ratio_max=math.nan), "ratio_max"),
  ],
)
def test_refusals(name, bad, word):
  expect.error(word, _grid(name), paths.vp(), **dict(num_steps=4) | bad)


SETTINGS = [
  ("cosine", _cosine, dict(offset=0.2)),
  ("sigmoid", _sigmoid, dict(start=-2.0, end=5.0, tau=0.7)),
  ("shifted", _shifted, dict(shift=0.4)),
]


@pytest.mark.parametrize("name, schedule, settings", SETTINGS)
def test_settings_of_schedules(name, schedule, settings):
  with jax.enable_x64(True):
    times = np.asarray(_grid(name)(paths.edm(), 7, 0.01, 60.0, **settings))
  own = [_inverse(lambda t: schedule(t, **settings), r) for r in times]
  np.testing.assert_allclose(np.diff(own), own[-1] / 7 - own[0] / 7, rtol=1e-9)


@pytest.mark.parametrize("path_name", ["cosine", "linear"])
def test_schedules_are_uniform_on_their_own_path(path_name):
  name, settings = {
    "cosine": ("cosine", {}),
    "linear": ("shifted", dict(shift=1.0)),
  }[path_name]
  with jax.enable_x64(True):
    path = mixture.jaxgen_path(path_name)
    times = _grid(name)(path, 11, **settings)
    expected = samplers.grids.uniform(path, 11)
  np.testing.assert_allclose(times, expected, rtol=1e-9)


ENDS = "start, end: expected start < end"


@pytest.mark.parametrize(
  "name, bad, word",
  [
    ("sigmoid", dict(start=3.0), ENDS),
    ("sigmoid", dict(end=math.inf), ENDS),
    ("karras", dict(rho=0.0), "rho: expected a positive number"),
    ("karras", dict(rho=-7.0), "rho: expected a positive number"),
    ("karras", dict(rho=math.nan), "rho: expected a positive number"),
    ("cosine", dict(offset=-0.1), "offset: expected a number >= 0"),
    ("cosine", dict(offset=-1e-3), "offset: expected a number >= 0"),
    ("cosine", dict(offset=math.inf), "offset: expected a number >= 0"),
    ("cosine", dict(offset=math.nan), "offset: expected a number >= 0"),
    *(
      (name, {setting: bad}, f"{setting}: expected a positive number")
      for name, setting in (("sigmoid", "tau"), ("shifted", "shift"))
      for bad in (0.0, -1.0, math.inf, math.nan)
    ),
    *(
      ("sigmoid", dict(start=float(low), end=float(high)), ENDS)
      for low, high in ((3, 3), (1, 1), (1, 0), (-math.inf, 1), (0, math.nan))
    ),
  ],
)
def test_refused_settings(name, bad, word):
  expect.error(word, _grid(name), paths.edm(), 4, **bad)
