"""A 2-D Gaussian mixture and the five paths, written out by hand: a truth for
solvers, in tests and benchmarks alike.

No number here comes from jaxgen, only `field`
hands the exact denoiser to it. The data has width, because point masses are
blind (the denoise collapses on an atom and hides wrong weights).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import integrate, optimize

from jaxgen import fields, paths, predictions

MEANS = np.array([[1.0, 0.5], [-1.0, 0.2], [0.3, -1.2]])
WEIGHTS = np.array([0.5, 0.3, 0.2])
WIDTH = 0.3
NAMES = ("edm", "vp", "cosine", "linear", "trigonometric")
POINTS = np.array([[0.3, -0.7], [-1.1, 0.4], [0.8, 1.3]])


def denoise(x, alpha, sigma, xp=np):
  """E[data | x_t = x] of the mixture, x [2], in NumPy or in jax.numpy."""
  means = xp.asarray(MEANS, x.dtype)
  variance = (alpha * WIDTH) ** 2 + sigma**2
  residual = x[None] - alpha * means
  log_weight = xp.log(xp.asarray(WEIGHTS, x.dtype))
  log_weight = log_weight - (residual**2).sum(1) / (2 * variance)
  weight = xp.exp(log_weight - log_weight.max())
  gain = alpha * WIDTH**2 / variance
  return weight @ (means + gain * residual) / weight.sum()


def field(path, scale=1.0):
  """The exact denoiser of `scale` times the mixture, as a field on a path."""

  def predict_fn(x, t):
    # scale data: D(x; alpha) = scale D_1(x; alpha scale).
    return scale * denoise(x, path.alpha(t) * scale, path.sigma(t), jnp)

  return fields.from_prediction(predict_fn, path, predictions.data)


class Scales(NamedTuple):
  """alpha, sigma and their derivatives, NumPy, and a bracket of the times."""

  alpha: object
  sigma: object
  alpha_rate: object
  sigma_rate: object
  low: float = 1e-9
  high: float = 1 - 1e-9


def vp(low=0.1, high=20.0):
  beta = lambda t: low + (high - low) * t
  alpha = lambda t: np.exp(-(low * t + (high - low) * t**2 / 2) / 2)
  sigma = lambda t: np.sqrt(1 - alpha(t) ** 2)
  return Scales(
    alpha,
    sigma,
    lambda t: -beta(t) / 2 * alpha(t),
    lambda t: beta(t) / 2 * alpha(t) ** 2 / sigma(t),
  )


def cosine(offset=0.008):
  rate = math.pi / 2 / (1 + offset)
  u = lambda t: (t + offset) * rate
  top = math.cos(offset * rate)
  alpha = lambda t: np.cos(u(t)) / top
  sigma = lambda t: np.sqrt(1 - alpha(t) ** 2)
  alpha_rate = lambda t: -np.sin(u(t)) * rate / top
  return Scales(
    alpha, sigma, alpha_rate, lambda t: -alpha(t) * alpha_rate(t) / sigma(t)
  )


def scales(name):
  """The path of this name, independent of jaxgen."""
  if name == "edm":
    one, zero = lambda t: t**0, lambda t: 0 * t
    return Scales(one, lambda t: t, zero, one, 1e-6, 1e4)
  if name == "linear":
    one = lambda t: t**0
    return Scales(lambda t: 1 - t, lambda t: t, lambda t: -(t**0), one)
  if name == "trigonometric":
    minus_sin, top = (lambda t: -np.sin(t)), math.pi / 2 - 1e-9
    return Scales(np.cos, np.sin, minus_sin, np.cos, 1e-9, top)
  return {"vp": vp, "cosine": cosine}[name]()


def time(name, ratio):
  """The time of a noise ratio, by bisection."""
  s = scales(name)
  gap = lambda t: math.log(s.sigma(t) / s.alpha(t) / ratio)
  return optimize.brentq(gap, s.low, s.high, xtol=1e-15, rtol=1e-14)


def flow(name, x, start, end):
  """The probability flow from time start to end, by DOP853, rtol 1e-13."""
  s = scales(name)

  def velocity(t, x):
    data = denoise(x, s.alpha(t), s.sigma(t))
    noise = (x - s.alpha(t) * data) / s.sigma(t)
    return s.alpha_rate(t) * data + s.sigma_rate(t) * noise

  solution = integrate.solve_ivp(
    velocity, (start, end), x, "DOP853", rtol=1e-13, atol=1e-14
  )
  return solution.y[:, -1]


def order(num_steps, errors):
  """The fitted p of error ~ N^-p, least squares on the logarithms."""
  return -np.polyfit(np.log(num_steps), np.log(errors), 1)[0]


def jaxgen_path(name):
  """jaxgen's path of this name."""
  return getattr(paths, name)()
