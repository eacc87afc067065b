"""The distance of two clouds, the straightness of flows and errors of maps.

  W2^2          min over permutations of mean_i |x_i - y_order(i)|^2
  energy        E int |dx/dt|^2 dt              at least W2^2 / (t_1 - t_0)
  straightness  E int |dx/dt - (x_1 - x_0) / (t_1 - t_0)|^2 dt,   0 if straight

  UVP           100 E |T(x) - T*(x)|^2 / Var T*(x);   100 for the constant mean

Energies are those of the piecewise linear paths through the states, exact for
Euler's method. All are functions of sets: the first axis is N.
"""

import numpy as np
from jaxtyping import Float

from jaxgen import couplings


def wasserstein(
  x: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."]
) -> float:
  """The exact 2-Wasserstein distance of two clouds.

  Two clouds sampled from the same distribution have a positive distance that
  depends on N; compare other distances with it.

  Args:
    x: the points of one cloud, [N, *D].
    y: the points of the other, [N, *D].

  Returns:
    W2, in the points' units.

  Raises:
    ValueError: a cloud is empty, the sizes or dimensions differ, or a value is
      not finite.
  """
  order = couplings.exact(x, y)
  gaps = np.asarray(x, np.float64) - np.asarray(y, np.float64)[order]
  return float(np.sqrt(np.sum(gaps**2) / len(order)))


def energy(
  states: Float[np.ndarray, "..."], times: Float[np.ndarray, "..."]
) -> float:
  """Kinetic energy of the paths, E int |dx/dt|^2 dt, for either time direction.

  Args:
    states: the state at each time, [N, T, *D], as from samplers.trajectory.
    times: [T], increasing or decreasing.

  Raises:
    ValueError: the numbers of times and states differ, or are below two.

  Reference: Tong et al. 2023, arXiv:2302.00482, section 5.
  """
  states, times = _check(states, times)
  steps, lengths = np.diff(states, axis=1), np.abs(np.diff(times))
  return float(np.mean(np.sum((steps**2).sum(-1) / lengths, 1)))


def straightness(
  states: Float[np.ndarray, "..."], times: Float[np.ndarray, "..."]
) -> float:
  """Deviation of paths from straight lines at constant speed, E int |..|^2 dt.

  Computed as the energy minus that of the straight lines with the same ends.

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
    truth: T*(x) of the same x, [N, *D], at least two points.

  Raises:
    ValueError: arrays are too short or differ in shape, or truth has variance
      0.

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
  """The mean cosine of the angle between two gradients; 0 where one is 0.

  Args:
    gradients: [N, *D].
    truth: the true gradients at the same points, [N, *D].

  Raises:
    ValueError: the arrays are empty or differ in shape.

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
      "times: expected one for each of at least two states [N, T, *D], got"
      f" times {list(times.shape)} and states {list(states.shape)}"
    )
  return states.reshape(*states.shape[:2], -1), times
