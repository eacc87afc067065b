"""What carries x along a step, and the one table of weights of every solver.

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

A method is a choice of nodes: f is the polynomial through the estimates there,
and `weights` are its integrals. Multistep methods (multistep.py) take the nodes
behind, one-step methods (exponential.py) stages within the step.

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
  """The module's table, a row: which estimate, and how it carries x.

  Attributes:
    estimate: its name in fields.Estimate.
    rate: of the exponential.
    clock: (path, t) -> tau.
    time: (path, tau) -> t, the inverse.
    scales: (path, t, end) -> (keep, gain), elementwise.
    std: (path, t, end) -> std of the step's noise; None where there is none.
    needs_path: whether the clock reads the path.
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
    """What a solver of this form needs of a field."""
    return (self.estimate, "path") if self.needs_path else (self.estimate,)

  def check(self, name: str, times: Array) -> None:
    """Refuses a rising grid where the form draws noise."""
    if self.std is not None:
      driver.require_decreasing(name, times)


def velocity() -> Form:
  """dx/dt = velocity, with no linear part to take exactly."""
  same = lambda path, t: t
  ones = lambda path, t, end: (jnp.ones_like(t), jnp.ones_like(t))
  return Form("velocity", 0.0, same, same, ones, needs_path=False)


def data(eta: float = 0.0) -> Form:
  """Exact for constant data."""

  def scales(path, t, end):
    h = path.log_ratio(t) - path.log_ratio(end)
    keep = path.sigma(end) / path.sigma(t) * jnp.exp(-eta * h)
    return keep, (1 + eta) * path.alpha(end)

  def std(path, t, end):
    h = path.log_ratio(t) - path.log_ratio(end)
    return path.sigma(end) * driver.root(-jnp.expm1(-2 * eta * h))

  return Form("data", 1 + eta, _clock, _time, scales, std if eta else None)


def noise(eta: float = 0.0) -> Form:
  """Exact for constant noise."""

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
  """The integrals of a step's Lagrange polynomials.

    w_j = int_start^end exp(-rate (end - tau)) l_j(tau) dtau

  By Gauss and Legendre's 12 points: exact to rounding for steps of the clock
  up to 10, and no digit is lost at small ones, as closed forms would.

  Args:
    nodes: where the polynomial goes through, in order of use: a multistep
      method's newest first, [k].
    start: of the step, on the clock, [].
    end: of the step, [].
    rate: of the exponential.
    known: which nodes there are, [k]; the others get the weight 0, and so do
      nodes that repeat one before them.

  Returns:
    w, [k].
  """
  points, masses = np.polynomial.legendre.leggauss(12)
  h = end - start
  fraction = jnp.asarray((1 + points) / 2, h.dtype)
  decay = jnp.exp(rate * h * (fraction - 1))
  mass = jnp.asarray(masses / 2, h.dtype) * h * decay
  values = jax.vmap(lagrange, (None, 0, None))
  # A sum: some accelerators round the factors of matrix products.
  return (mass[:, None] * values(nodes - start, h * fraction, known)).sum(0)


def used(
  nodes: Float[Array, "k"], known: Bool[Array, "k"] | None = None
) -> Bool[Array, "k"]:
  """Which nodes are known and repeat no known one before them, [k]."""
  known = jnp.ones(len(nodes), bool) if known is None else known
  before = jnp.tri(len(nodes), k=-1, dtype=bool) & known[None]
  return known & ~(before & (nodes[:, None] == nodes[None])).any(1)


def lagrange(
  nodes: Float[Array, "k"],
  at: Float[Array, ""],
  known: Bool[Array, "k"] | None = None,
) -> Float[Array, "k"]:
  """The Lagrange polynomials l_j of the used nodes at one place, [k]."""
  counts = used(nodes, known)
  others = counts[:, None] & counts[None] & ~jnp.eye(len(nodes), dtype=bool)
  # No gap is 0, not even one whose quotient is dropped: its slope would be NaN.
  gaps = jnp.where(others, nodes[:, None] - nodes[None], 1)
  factors = jnp.where(others, (at - nodes)[None] / gaps, 1)
  return jnp.where(counts, factors.prod(1), 0)


def combine(weights: Array, values: tuple) -> Array:
  """sum_j weights_j values_j."""
  return sum(w * value for w, value in zip(weights, values, strict=True))
