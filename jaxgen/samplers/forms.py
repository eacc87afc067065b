"""How an estimate carries x along a step, and the weights of every solver.

One estimate f of the field, on its clock tau, carries x along a step as

  x' = keep x + gain int exp(-rate (tau' - tau)) f(tau) dtau   (+ std z)

  form      f         clock             rate     keep            gain
  velocity  velocity  t                 0        1               1
  data      data      log(alpha/sigma)  1 + eta  s exp(-eta h)   (1+eta) alpha'
  noise     noise     log(alpha/sigma)  -1       alpha'/alpha    -(1+eta) sigma'

with h the step of the clock and s = sigma'/sigma. eta = 0 is the probability
flow, in either direction of time; eta = 1 the reverse-time SDE, whose noise has

  data   std = sigma' sqrt(1 - exp(-2 eta h))
  noise  std = sigma' sqrt(eta (exp(2 h) - 1))

A method is a choice of nodes: f is replaced by the polynomial through the
estimates at the nodes, and `weights` are its integrals. Multistep methods
(multistep.py) use nodes of past steps, one-step methods (exponential.py) use
stages within the step.

Reference: Hochbruck and Ostermann 2010, Acta Numerica 19; Lu et al. 2022,
arXiv:2206.00927 (noise) and arXiv:2211.01095 (data); Gonzalez et al. 2023,
arXiv:2305.14267 (both SDEs).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgen.samplers import driver


class Form(NamedTuple):
  """A row of the module's table: which estimate is used, and how it carries x.

  Attributes:
    estimate: its name in fields.Estimate.
    rate: rate of the exponential.
    clock: (path, t) -> tau.
    time: (path, tau) -> t, the inverse.
    scales: (path, t, end) -> (keep, gain), elementwise.
    std: (path, t, end) -> std of the step's noise; None if deterministic.
    needs_path: whether the clock depends on the path.
  """

  estimate: str
  rate: float
  clock: Callable
  time: Callable
  scales: Callable
  std: Callable | None = None
  needs_path: bool = True

  @property
  def needs(self) -> tuple[str, ...]:
    """The fields' attributes that a solver of this form needs."""
    return (self.estimate, "path") if self.needs_path else (self.estimate,)

  def check(self, name: str, times: Array) -> None:
    """Raises for an increasing grid if the form is stochastic."""
    if self.std is not None:
      driver.require_decreasing(name, times)


def velocity() -> Form:
  """dx/dt = velocity, without a linear part that is integrated exactly."""
  same = lambda path, t: t
  ones = lambda path, t, end: (jnp.ones_like(t), jnp.ones_like(t))
  return Form("velocity", 0.0, same, same, ones, needs_path=False)


def data(eta: float = 0.0) -> Form:
  """The data form, exact for constant data."""

  def scales(path, t, end):
    h = path.log_ratio(t) - path.log_ratio(end)
    keep = path.sigma(end) / path.sigma(t) * jnp.exp(-eta * h)
    return keep, (1 + eta) * path.alpha(end)

  def std(path, t, end):
    h = path.log_ratio(t) - path.log_ratio(end)
    return path.sigma(end) * driver.root(-jnp.expm1(-2 * eta * h))

  return Form("data", 1 + eta, _clock, _time, scales, std if eta else None)


def noise(eta: float = 0.0) -> Form:
  """The noise form, exact for constant noise."""

  def scales(path, t, end):
    return path.alpha(end) / path.alpha(t), -(1 + eta) * path.sigma(end)

  def std(path, t, end):
    h = path.log_ratio(t) - path.log_ratio(end)
    return path.sigma(end) * driver.root(eta * jnp.expm1(2 * h))

  return Form("noise", -1.0, _clock, _time, scales, std if eta else None)


def _clock(path, t):
  return -path.log_ratio(t)


def _time(path, tau):
  return path.time(jnp.exp(-tau))


def weights(
  nodes: Float[Array, "k"],
  start: Float[Array, ""],
  end: Float[Array, ""],
  rate: float,
  known: Bool[Array, "k"] | None = None,
) -> Float[Array, "k"]:
  """Integrals of the Lagrange polynomials over a step.

    w_j = int_start^end exp(-rate (end - tau)) l_j(tau) dtau

  Uses 12-point Gauss-Legendre quadrature: exact to rounding for steps of the
  clock up to 10, and without the cancellation of closed forms at small steps.

  Args:
    nodes: interpolation nodes, [k], in order of priority: for a multistep
      method, the newest first.
    start: start of the step, on the clock, [].
    end: end of the step, [].
    rate: rate of the exponential.
    known: which nodes exist, [k]; the others have weight 0, and so do nodes
      that repeat an earlier one.

  Returns:
    w, [k].
  """
  points, masses = np.polynomial.legendre.leggauss(12)
  h = end - start
  fraction = jnp.asarray((1 + points) / 2, h.dtype)
  decay = jnp.exp(rate * h * (fraction - 1))
  mass = jnp.asarray(masses / 2, h.dtype) * h * decay
  values = jax.vmap(lagrange, (None, 0, None))
  # A sum, since some accelerators round the factors of matrix products.
  return (mass[:, None] * values(nodes - start, h * fraction, known)).sum(0)


def used(
  nodes: Float[Array, "k"], known: Bool[Array, "k"] | None = None
) -> Bool[Array, "k"]:
  """Which nodes are known and do not repeat an earlier known node, [k]."""
  known = jnp.ones(len(nodes), bool) if known is None else known
  before = jnp.tri(len(nodes), k=-1, dtype=bool) & known[None]
  return known & ~(before & (nodes[:, None] == nodes[None])).any(1)


def lagrange(
  nodes: Float[Array, "k"],
  at: Float[Array, ""],
  known: Bool[Array, "k"] | None = None,
) -> Float[Array, "k"]:
  """The Lagrange polynomials l_j of the used nodes at one point, [k]."""
  counts = used(nodes, known)
  others = counts[:, None] & counts[None] & ~jnp.eye(len(nodes), dtype=bool)
  # Gaps must not be 0 even if unused, or their derivative would be NaN.
  gaps = jnp.where(others, nodes[:, None] - nodes[None], 1)
  factors = jnp.where(others, (at - nodes)[None] / gaps, 1)
  return jnp.where(counts, factors.prod(1), 0)


def combine(weights: Array, values: tuple) -> Array:
  """sum_j weights_j values_j."""
  return sum(w * value for w, value in zip(weights, values, strict=True))
