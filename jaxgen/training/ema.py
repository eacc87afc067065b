"""Exponential moving averages of parameters.

  ema <- ema + rate(i) (params - ema),   i = 0, 1, 2, ...

i counts the player's updates, including inner steps. A rule is a function
i -> rate = 1 - decay; it returns the rate, since 1 - decay would lose its
digits in float32. The average is stored in float32 or wider, since small
updates would be rounded away in half precision.

Power-function averages (`power`) average over a fixed fraction of the training
so far, not over a fixed number of steps. Averages of two lengths, stored from
time to time, combine after training to an average of any other length
(`recombination`, `combine`).

Reference: Karras et al. 2024, arXiv:2312.02696, section 3 and appendix C.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

Rule = Callable[[Int[Array, ""]], ArrayLike]

_LONGEST = 12**-0.5  # the relative length of the plain mean, gamma = 0


def constant(decay: SupportsFloat) -> Rule:
  """The same decay at every step; averages over about 1 / (1 - decay) steps.

  Args:
    decay: in [0, 1]; 0 copies the parameters, 1 never changes.

  Returns:
    The rule, i -> 1 - decay.

  Raises:
    ValueError: decay is outside [0, 1].
  """
  rest = 1 - _checked(decay)
  return lambda step: rest


def warmup(decay: SupportsFloat) -> Rule:
  """A decay that starts small, so that no bias correction is needed.

    1 - rate(i) = min(decay, (1 + i) / (10 + i))

  Args:
    decay: the limit, in [0, 1].

  Returns:
    The rule, i -> max(1 - decay, 9 / (10 + i)).

  Raises:
    ValueError: decay is outside [0, 1].
  """
  rest = 1 - _checked(decay)
  return lambda step: jnp.maximum(rest, 9.0 / (10.0 + step))


def power(length: SupportsFloat) -> Rule:
  """A power-function average, whose profile scales with the training time.

    ema(n) = integral_0^n p(tau) params(tau) dtau,
    p(tau) = (gamma + 1) tau^gamma / n^(gamma + 1),
    rate(i) = 1 - (1 - 1 / (i + 1))^(gamma + 1)

  with params constant within a step. The length is the profile's standard
  deviation divided by n (sigma_rel), and gamma is its exponent. The first step
  sets the average to the parameters.

  Args:
    length: above 0, at most 12^-.5 = .2887 (gamma = 0, the plain mean).

  Returns:
    The rule, i -> rate(i).

  Raises:
    ValueError: length is out of range.

  Reference: Karras et al. 2024, arXiv:2312.02696, eq. 2 and 127.
  """
  gamma = exponent(length)

  def rule(step):
    rest = 1.0 / (1.0 + step)
    return -jnp.expm1((gamma + 1) * jnp.log1p(-rest))

  return rule


def exponent(length: SupportsFloat) -> float:
  """The exponent gamma of a power-function average of this relative length.

    length^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))

  Args:
    length: as in `power`.

  Returns:
    gamma, at least 0.

  Raises:
    ValueError: length is out of range.
  """
  value = float(length)
  if not 0 < value <= _LONGEST:
    raise ValueError(
      f"length: expected above 0, at most {_LONGEST:.4f}, got {value}"
    )
  t = value**-2
  roots = np.roots([1, 7, 16 - t, 12 - t])
  return max(0.0, float(roots.real.max()))


def recombination(
  steps: Sequence[int],
  lengths: Sequence[float],
  step: int,
  length: float,
) -> Float[np.ndarray, "N"]:
  """Weights that combine stored averages to an average of another length.

    min over w of | sum_n w_n p_n - p |^2,   sum_n w_n = 1,

  with profiles p as in `power`. (The paper has no such constraint; without it,
  weights that do not sum to 1 would shrink the parameters.)

  Args:
    steps: number of training steps when each average was stored, [N].
    lengths: relative length of each, [N].
    step: number of training steps at the end of the wanted average.
    length: relative length of the wanted average.

  Returns:
    w, [N], float64, for ema = sum_n w_n ema_n. It is exact if p is one of the
    p_n, and otherwise the best approximation.

  Raises:
    ValueError: nothing is stored, steps and lengths differ in number, a step is
      below 1, or a length is out of range.

  Reference: Karras et al. 2024, arXiv:2312.02696, appendix C.2, algorithm 3.
  """
  if not len(steps) or len(steps) != len(lengths):
    raise ValueError(
      "steps: expected one for each of at least one length, got "
      f"{len(steps)} for {len(lengths)}"
    )
  if min(*steps, step) < 1:
    raise ValueError(f"step: expected at least 1, got {min(*steps, step)}")
  stored = list(zip(steps, map(exponent, lengths), strict=True))
  wanted = step, exponent(length)
  norms = np.array([_product(p, p) for p in stored]) ** 0.5
  products = np.array([[_product(p, q) for q in stored] for p in stored])
  target = np.array([_product(p, wanted) for p in stored])
  # The system with a Lagrange multiplier; profiles of norm 1, w = y / norms.
  sums = (1 / norms) / np.linalg.norm(1 / norms)
  matrix = np.block(
    [[products / np.outer(norms, norms), sums[:, None]], [sums, np.zeros(1)]]
  )
  right = np.append(target / norms, 1 / np.linalg.norm(1 / norms))
  return np.linalg.lstsq(matrix, right, rcond=None)[0][:-1] / norms


def combine(weights: Iterable[float], averages: Iterable[PyTree]) -> PyTree:
  """sum_n w_n ema_n, with one average in memory at a time.

  Computed on the host in float64 (complex leaves in complex128).

  Args:
    weights: w, [N], from `recombination`.
    averages: N averages of one structure, in the same order; may be a
      generator that reads them.

  Returns:
    The sum, NumPy arrays in the averages' dtypes.

  Raises:
    ValueError: the numbers of averages and weights differ, or are 0.
  """
  total, like = None, None
  for weight, mean in zip(weights, averages, strict=True):
    like = like or jax.tree.map(lambda x: np.asarray(x).dtype, mean)
    part = jax.tree.map(lambda x: weight * _wide(x), mean)
    total = part if total is None else jax.tree.map(np.add, total, part)
  if total is None:
    raise ValueError("averages: expected at least one, got none")
  return jax.tree.map(lambda x, dtype: x.astype(dtype), total, like)


def init(params: PyTree) -> PyTree:
  """The initial average: a copy of the parameters, in float32 or wider."""
  return jax.tree.map(lambda p: jnp.array(p, _dtype(p)), params)


def update(ema: PyTree, params: PyTree, rate: Float[ArrayLike, ""]) -> PyTree:
  """One step of the average.

  Args:
    ema: the average so far.
    params: the current parameters, of the same structure.
    rate: rate of the update, in [0, 1].

  Returns:
    ema + rate (params - ema), in ema's dtypes.
  """

  def one(mean, value):
    step = jnp.asarray(rate).astype(mean.dtype)
    return mean + step * (value.astype(mean.dtype) - mean)

  return jax.tree.map(one, ema, params)


def _product(p, q):
  """The inner product of two profiles (n, gamma), computed in logarithms."""
  (n, a), (m, b) = p, q
  short = a + b + 1
  log = short * math.log(min(n, m)) - (a + 1) * math.log(n)
  log -= (b + 1) * math.log(m)
  return (a + 1) * (b + 1) / short * math.exp(log)


def _wide(x):
  """A NumPy copy in double precision."""
  x = np.asarray(x)
  return x.astype(np.promote_types(x.dtype, np.float64))


def _dtype(p):
  return jnp.promote_types(jnp.asarray(p).dtype, jnp.float32)


def _checked(decay):
  """The decay as a Python float, since NumPy or JAX scalars may be narrower."""
  value = float(decay)
  if not 0 <= value <= 1:
    raise ValueError(f"decay: expected a number in [0, 1], got {value}")
  return value
