"""Classical densities of discrete data: the figures that a model has to beat.

Data are integer levels [N, D] in 0, ..., L - 1; two levels are binary data.

  factorised           P(x) = prod_d p_d(x_d)
  categorical_mixture  P(x) = sum_k w_k prod_d p_kd(x_d), fitted by EM
  chow_liu             P(x) = p_r(x_r) prod_{d != r} p_d(x_d | x_parent(d))

A pseudo-count c > 0 adds c examples that are uniform over all L^D, as fractions
of an example, so that pairs have the single probabilities as their marginals:

  p(a) = (n(a) + c / L) / (N + c),   p(a, b) = (n(a, b) + c / L^2) / (N + c)

Choose it and the number of components on validation data. All functions run on
the host in float64. Gaussian baselines are in jaxgen.metrics.gaussians.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

EXACT = "exact"


class Density(NamedTuple):
  """A fitted distribution of levels.

  Attributes:
    name: the model and its size, for tables.
    kind: what log_prob returns, EXACT or gaussians.BOUND.
    log_prob: levels [N, D] -> log P, or its lower bound, in nats, [N].
    sample: (NumPy Generator, number) -> levels, [number, D].
  """

  name: str
  kind: str
  log_prob: Callable
  sample: Callable


class History(NamedTuple):
  """A mixture, and the course of the EM algorithm that fitted it.

  Attributes:
    density: the mixture after the last step.
    log_likelihood: sum_n log P(x_n) of the training data in nats, [T + 1].
    objective: what EM increases in every step, the log-likelihood plus
      (c / L) sum log p_kd(a) over components, coordinates and levels, [T + 1].
      Beside it the log-likelihood alone may decrease.
  """

  density: Density
  log_likelihood: Float[np.ndarray, "T+1"]
  objective: Float[np.ndarray, "T+1"]


def factorised(
  levels: Shaped[np.ndarray, "..."], num_levels: int, pseudo_count: float
) -> Density:
  """Independent coordinates: P(x) = prod_d p_d(x_d).

  Args:
    levels: training data, integers or booleans, [N, D].
    num_levels: number of levels L, at least 2.
    pseudo_count: c, number of uniform examples added, above 0.

  Returns:
    The density, exact.

  Raises:
    ValueError: levels are not integers in 0, ..., L - 1, or are empty, or
      pseudo_count is not positive and finite.
  """
  levels = check_levels(levels, num_levels)
  p = _single(levels, num_levels, pseudo_count)
  dim = np.arange(len(p))

  def log_prob(levels):
    levels = check_levels(levels, num_levels, len(p))
    return np.log(p)[dim, levels].sum(1)

  def sample(rng, number):
    return _draw(rng, np.broadcast_to(p, (number, *p.shape)))

  return Density("factorised", EXACT, log_prob, sample)


def categorical_mixture(
  rng: np.random.Generator,
  levels: Shaped[np.ndarray, "..."],
  num_levels: int,
  num_components: int,
  *,
  pseudo_count: float,
  num_steps: int,
) -> History:
  """A mixture of factorised distributions, of Bernoullis for two levels, by EM.

    r_nk = w_k p_k(x_n) / P(x_n),   w_k = mean_n r_nk,
    p_kd(a) = (sum_n r_nk [x_nd = a] + c / L) / (sum_n r_nk + c)

  The pseudo-count is a Dirichlet prior on the probabilities of each component,
  so the algorithm maximises a posterior density. It starts from the means of
  the factorised distribution and of K different training examples.

  Args:
    rng: chooses the examples of the start.
    levels: training data, integers or booleans, [N, D].
    num_levels: number of levels L, at least 2.
    num_components: K, from 1 to N.
    pseudo_count: c, number of uniform examples added to each component, above
      0.
    num_steps: T, number of EM steps, at least 1.

  Returns:
    The density, exact, with the log-likelihood and objective before each step
    and after the last.

  Raises:
    ValueError: as for `factorised`, or a number is out of range.

  Reference: Dempster, Laird and Rubin 1977, JRSS B 39, section 4.3.
  """
  levels = check_levels(levels, num_levels)
  check_range("num_components", num_components, 1, len(levels))
  check_range("num_steps", num_steps, 1, math.inf)
  first = rng.choice(len(levels), num_components, replace=False)
  mean = _single(levels, num_levels, pseudo_count).ravel()
  x, added = _one_hot(levels, num_levels), pseudo_count / num_levels
  p = (x[first].toarray() + mean) / 2
  w = np.full(num_components, 1 / num_components)
  course = []
  for step in range(num_steps + 1):
    total, joint = _log_mixture(x, w, np.log(p))
    course.append((total.sum(), total.sum() + added * np.log(p).sum()))
    if step < num_steps:
      share = np.exp(joint - total[:, None])
      w, counts = share.mean(0), (x.T @ share).T
      p = (counts + added) / (len(levels) * w[:, None] + pseudo_count)
  log_likelihood, objective = np.array(course).T
  density = mixture_density(w, np.log(p), num_levels)
  return History(density, log_likelihood, objective)


def mixture_density(
  weights: Float[np.ndarray, "K"],
  log_p: Float[np.ndarray, "K DL"],
  num_levels: int,
) -> Density:
  """The mixture of K factorised distributions with given probabilities.

  Args:
    weights: w, of sum 1, [K].
    log_p: log p_kd(a) at column d L + a, [K, D L].
    num_levels: number of levels L.

  Returns:
    The density, exact.
  """
  dim = log_p.shape[1] // num_levels

  def log_prob(levels):
    x = _one_hot(check_levels(levels, num_levels, dim), num_levels)
    return _log_mixture(x, weights, log_p)[0]

  def sample(rng, number):
    chosen = _draw(rng, np.broadcast_to(weights, (number, len(weights))))
    return _draw(rng, np.exp(log_p[chosen].reshape(number, dim, num_levels)))

  return Density(f"mixture of {len(weights)}", EXACT, log_prob, sample)


def _log_mixture(x, w, log_p):
  """(log P(x), [N], log w_k p_k(x), [N, K]) of one-hot x [N, D L]."""
  with np.errstate(divide="ignore"):  # a component may have lost all weight
    joint = x @ log_p.T + np.log(w)
  top = joint.max(1, keepdims=True)
  return np.log(np.exp(joint - top).sum(1)) + top[:, 0], joint


def chow_liu(
  levels: Shaped[np.ndarray, "..."], num_levels: int, pseudo_count: float
) -> Density:
  """The best tree: each coordinate depends on one other, its parent.

    P(x) = p_r(x_r) prod_{d != r} p(x_d, x_parent(d)) / p(x_parent(d))

  The edges are a minimum spanning tree for minus the mutual information of the
  pairs. No tree, with whatever conditional probabilities, has a larger
  log-likelihood of the data with the c uniform examples. The choice of the
  root, coordinate 0, does not change the distribution. Needs memory for
  (D L)^2 probabilities.

  Args, Returns and Raises: as for `factorised`.

  Reference: Chow and Liu 1968, IEEE Transactions on Information Theory 14(3).
  """
  from scipy.sparse import csgraph

  levels = check_levels(levels, num_levels)
  p = _single(levels, num_levels, pseudo_count)
  pairs = _pairs(levels, num_levels, pseudo_count)
  ratio = pairs / (p[:, None, :, None] * p[None, :, None, :])
  information = (pairs * np.log(ratio)).sum((2, 3))
  # Every tree has as many edges, so a constant changes nothing; without it, an
  # information of 0 would be no edge.
  weight = 1 + information.max() - information
  edges = csgraph.minimum_spanning_tree(np.triu(weight, 1))
  order, parent = csgraph.breadth_first_order(edges, 0, directed=False)
  parent[0] = 0
  table = pairs[parent, np.arange(len(p))] / p[parent][..., None]
  table[0] = p[0]  # in every row: the root has no parent
  dim = np.arange(len(p))

  def log_prob(levels):
    levels = check_levels(levels, num_levels, len(p))
    return np.log(table)[dim, levels[:, parent], levels].sum(1)

  def sample(rng, number):
    found = np.zeros((number, len(p)), np.int64)
    for d in order:  # parents first
      found[:, d] = _draw(rng, table[d, found[:, parent[d]]])
    return found

  return Density("Chow-Liu tree", EXACT, log_prob, sample)


def check_levels(levels, num_levels, dim=None):
  """The levels as int64, if they are valid."""
  levels = np.asarray(levels)
  check_range("num_levels", num_levels, 2, math.inf)
  if levels.ndim != 2 or not levels.size:
    shape = list(levels.shape)
    raise ValueError(f"levels: expected [N, D], not empty, got {shape}")
  if dim not in (None, levels.shape[1]):
    raise ValueError(f"levels: expected [N, {dim}], got {list(levels.shape)}")
  if levels.dtype.kind not in "biu":
    raise ValueError(f"levels: expected integers, got {levels.dtype}")
  low, high = levels.min(), levels.max()
  if low < 0 or high >= num_levels:
    raise ValueError(
      f"levels: expected 0 to {num_levels - 1}, got {low} to {high}"
    )
  return levels.astype(np.int64)


def check_range(name, number, low, high):
  if not low <= number <= high:
    most = "" if high == math.inf else f" and at most {high}"
    raise ValueError(f"{name}: expected at least {low}{most}, got {number}")


def _single(levels, num_levels, pseudo_count):
  """p_d(a) of each coordinate, [D, L]."""
  if not 0 < pseudo_count < math.inf:
    raise ValueError(
      f"pseudo_count: expected positive and finite, got {pseudo_count}"
    )
  counts = _one_hot(levels, num_levels).sum(0).reshape(-1, num_levels)
  added = pseudo_count / num_levels
  return (counts + added) / (len(levels) + pseudo_count)


def _pairs(levels, num_levels, pseudo_count):
  """p_de(a, b) of two different coordinates, [D, D, L, L]."""
  x, dim = _one_hot(levels, num_levels), levels.shape[1]
  counts = (x.T @ x).toarray().reshape(dim, num_levels, dim, num_levels)
  added = pseudo_count / num_levels**2
  return (counts.swapaxes(1, 2) + added) / (len(levels) + pseudo_count)


def _one_hot(levels, num_levels):
  """One-hot levels [N, D L], sparse."""
  from scipy import sparse

  number, dim = levels.shape
  columns = levels + num_levels * np.arange(dim)
  starts = dim * np.arange(number + 1)
  values = np.ones(levels.size), columns.ravel(), starts
  return sparse.csr_array(values, shape=(number, dim * num_levels))


def _draw(rng, p):
  """A level for each row of probabilities: [..., L] -> [...]."""
  below = np.cumsum(p, -1)[..., :-1]
  return (rng.random((*p.shape[:-1], 1)) >= below).sum(-1)
