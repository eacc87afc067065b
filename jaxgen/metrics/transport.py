"""How far two clouds lie apart, and how straight a flow runs between them.

  W2^2          min over permutations of mean_i |x_i - y_order(i)|^2
  energy        E int |dx/dt|^2 dt              at least W2^2 / (t_1 - t_0)
  straightness  E int |dx/dt - (x_1 - x_0) / (t_1 - t_0)|^2 dt,   0: straight

  UVP           100 E |T(x) - T*(x)|^2 / Var T*(x)    of a map; 100: the mean

Energies are those of the polygon through the states, exact for Euler's method.
All are functions of sets: an axis N comes first.
"""

import numpy as np
from jaxtyping import Float

from jaxgen import couplings


def wasserstein(
  x: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."]
) -> float:
  """The 2-Wasserstein distance of two clouds, exact.

  Two clouds of one law have a positive distance, the floor of a comparison: it
  depends on N.

  Args:
    x: [N, *D].
    y: [N, *D], as many.

  Returns:
    W2, in the points' units.

  Raises:
    ValueError: an empty cloud, two of different size or dimension, values that
      are not finite.
  """
  order = couplings.exact(x, y)
  gaps = np.asarray(x, np.float64) - np.asarray(y, np.float64)[order]
  return float(np.sqrt(np.sum(gaps**2) / len(order)))


def energy(
  states: Float[np.ndarray, "..."], times: Float[np.ndarray, "..."]
) -> float:
  """Kinetic energy of the paths, E int |dx/dt|^2 dt, over |dt|.

  Args:
    states: at each time, [N, T, *D], of samplers.trajectory.
    times: [T], monotone, either way.

  Raises:
    ValueError: another number of times than of states, or fewer than two.

  Reference: Tong et al. 2023, arXiv:2302.00482, section 5.
  """
  states, times = _check(states, times)
  steps, lengths = np.diff(states, axis=1), np.abs(np.diff(times))
  return float(np.mean(np.sum((steps**2).sum(-1) / lengths, 1)))


def straightness(
  states: Float[np.ndarray, "..."], times: Float[np.ndarray, "..."]
) -> float:
  """How far paths are from straight lines of one speed, E int |..|^2 dt.

  The energy less that of the straight lines between the same ends.

  Args and Raises: as in `energy`.

  Reference: Liu et al. 2022, arXiv:2209.03003, eq. 11.
  """
  states, times = _check(states, times)
  straight = energy(states[:, [0, -1]], times[[0, -1]])
  return energy(states, times) - straight


def unexplained_variance(
  mapped: Float[np.ndarray, "..."], truth: Float[np.ndarray, "..."]
) -> float:
  """L2-UVP of a map, in percent of the target's variance.

    100 E |T(x) - T*(x)|^2 / Var T*(x)

  Args:
    mapped: T(x), [N, *D].
    truth: T*(x) of the same x, [N, *D], two at least.

  Raises:
    ValueError: empty arrays, another shape, or a truth of variance 0.

  Reference: Korotin et al. 2021, arXiv:1909.13082, section 5.1.
  """
  mapped, truth = _alike(mapped, truth, 2)
  errors, variance = ((mapped - truth) ** 2).sum(1).mean(), truth.var(0).sum()
  if not variance > 0:
    raise ValueError(f"truth: expected points that differ, got Var {variance}")
  return float(100 * errors / variance)


def cosine(
  gradients: Float[np.ndarray, "..."], truth: Float[np.ndarray, "..."]
) -> float:
  """E cos of the angle between two fields of gradients; 0 where one vanishes.

  Args:
    gradients: [N, *D].
    truth: at the same points, [N, *D].

  Raises:
    ValueError: empty arrays, or another shape.

  Reference: Korotin et al. 2022, arXiv:2206.07767, section 5.
  """
  gradients, truth = _alike(gradients, truth, 1)
  lengths = np.linalg.norm(gradients, axis=1) * np.linalg.norm(truth, axis=1)
  products = (gradients * truth).sum(1)
  return float(np.mean(products / np.where(lengths > 0, lengths, 1.0)))


def _alike(first, second, least):
  first, second = (np.asarray(a, np.float64) for a in (first, second))
  if first.shape != second.shape or first.ndim < 2 or len(first) < least:
    raise ValueError(
      f"truth: expected the same {least} or more points [N, *D], got"
      f" {list(first.shape)} and {list(second.shape)}"
    )
  return first.reshape(len(first), -1), second.reshape(len(second), -1)


def _check(states, times):
  states, times = (np.asarray(a, np.float64) for a in (states, times))
  if states.ndim < 3 or times.shape != states.shape[1:2] or len(times) < 2:
    raise ValueError(
      "times: expected one of each of two or more states [N, T, *D], got times"
      f" {list(times.shape)} and states {list(states.shape)}"
    )
  return states.reshape(*states.shape[:2], -1), times
