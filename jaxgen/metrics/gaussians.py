"""Gaussian baselines of discrete data, by scikit-learn.

Data are integer levels [N, D] in 0, ..., L - 1. A density p is fitted to x + u,
u uniform on [0, 1]^D, and bounds their probabilities from below:

  log P(x) = log int p(x + u) du >= E log p(x + u)

At unit spacing the correction D log width of jaxgen.dequantisation.uniform is
0. Samples are rounded down, those outside the range to the nearest level. All
functions run on the host in float64.

Reference: Theis et al. 2016, arXiv:1511.01844, section 3.1.
"""

import copy
import math
import warnings

import numpy as np
from jaxtyping import Float, Shaped

from jaxgen.metrics import baselines, frechet

BOUND = "lower bound in expectation (uniform dequantisation)"


def gaussian_mixture(
  rng: np.random.Generator,
  levels: Shaped[np.ndarray, "..."],
  num_levels: int,
  num_components: int,
  *,
  covariance: str,
  reg_covar: float,
  num_draws: int,
) -> baselines.Density:
  """Scikit-learn's GaussianMixture of x + u, u uniform on [0, 1]^D.

    log P(x) >= E log p(x + u), estimated by a mean over num_draws values of u

  These are the same for all x and are stratified in each coordinate (a Latin
  hypercube), so that log_prob is a function. At unit spacing the correction
  D log width of jaxgen.dequantisation.uniform is 0. Samples are rounded down,
  those outside the range to the nearest level. Training stops after at most
  200 steps of EM; scikit-learn's warning is suppressed.

  Args:
    rng: draws u, one for each training example, and seeds the fit.
    levels: training data, integers or booleans, [N, D].
    num_levels: number of levels L, at least 2.
    num_components: K, from 1 to N.
    covariance: scikit-learn's covariance_type, such as "diag" or "full".
    reg_covar: variance added to every diagonal, at least 0.
    num_draws: number of values of u in log_prob, at least 1.

  Returns:
    The density, whose log_prob is a lower bound in expectation.

  Raises:
    ValueError: as for `factorised`, or a setting is out of range.
    ImportError: scikit-learn is not installed.

  Reference: Theis et al. 2016, arXiv:1511.01844, section 3.1.
  """
  baselines.check_range("num_draws", num_draws, 1, math.inf)
  model = _fit(rng, levels, num_levels, num_components, covariance, reg_covar)
  dim, cells = model.means_.shape[1], np.arange(num_draws)[:, None]
  cells = rng.permuted(np.tile(cells, dim), axis=0)
  noise = (cells + rng.random(cells.shape)) / num_draws

  def log_prob(levels):
    levels = baselines.check_levels(levels, num_levels, dim)
    return np.mean([model.score_samples(levels + u) for u in noise], 0)

  def sample(rng, number):
    own = copy.copy(model).set_params(random_state=int(rng.integers(2**31)))
    x = own.sample(number)[0]  # sorted by component
    return _rounded(rng.permutation(x), num_levels)

  name = f"mixture of {num_components} Gaussians, {covariance}"
  return baselines.Density(name, BOUND, log_prob, sample)


def binned_mixture(
  rng: np.random.Generator,
  levels: Shaped[np.ndarray, "..."],
  num_levels: int,
  num_components: int,
  *,
  reg_covar: float,
) -> baselines.Density:
  """The distribution of the samples of a diagonal `gaussian_mixture`, exactly.

    P(x) = sum_k w_k prod_d (F_kd(x_d + 1) - F_kd(x_d)),

  where F_kd are the normal distribution functions, and the bins of the first
  and the last level reach to infinity. The difference from the lower bound of
  `gaussian_mixture` is what the bound loses, and the mass outside the range.

  Args:
    rng: as in `gaussian_mixture`; the same state fits the same mixture.
    levels: training data, integers or booleans, [N, D].
    num_levels: number of levels L, at least 2.
    num_components: K, from 1 to N.
    reg_covar: variance added to every diagonal, at least 0.

  Returns:
    The density, exact.

  Raises: as `gaussian_mixture`.
  """
  from scipy import special

  model = _fit(rng, levels, num_levels, num_components, "diag", reg_covar)
  edges = np.arange(num_levels + 1.0)
  edges[[0, -1]] = -np.inf, np.inf
  z = edges - model.means_[..., None]
  z /= np.sqrt(model.covariances_)[..., None]
  low, high = z[..., :-1], z[..., 1:]
  # By the smaller tail of the two, which rounding leaves its digits.
  flip = low > 0
  low, high = np.where(flip, -high, low), np.where(flip, -low, high)
  near, far = special.log_ndtr(high), special.log_ndtr(low)
  log_p = near + np.log1p(-np.exp(far - near))
  flat = log_p.reshape(num_components, -1)
  found = baselines.mixture_density(model.weights_, flat, num_levels)
  name = f"mixture of {num_components} Gaussians, diag, binned"
  return found._replace(name=name)


def probabilistic_pca(
  data: Float[np.ndarray, "N D"], num_components: int
) -> frechet.Gaussian:
  """The Gaussian of the q principal components plus isotropic noise.

    N(mean, V diag(lambda - s) V^T + s I),   s = mean of the other D - q lambda

  with lambda the eigenvalues of the covariance about the mean. The most likely
  Gaussian of this form, and so the optimum of a linear VAE with q latent
  dimensions. Scikit-learn's PCA, whose covariance has N - 1 for N.

  Args:
    data: points, at least two, [N, D].
    num_components: q, from 1 to D - 1, below N.

  Returns:
    The mean and the covariance, float64.

  Raises:
    ValueError: num_components is out of range.
    ImportError: scikit-learn is not installed.

  Reference: Tipping and Bishop 1999, JRSS B 61, eqs. 7 and 8.
  """
  most = min(len(data), data.shape[1]) - 1
  baselines.check_range("num_components", num_components, 1, most)
  model = _scikit_learn().decomposition.PCA(num_components, svd_solver="full")
  model.fit(np.asarray(data, np.float64))
  covariance = model.get_covariance() * (1 - 1 / len(data))
  return frechet.Gaussian(model.mean_, covariance)


def pca(
  levels: Shaped[np.ndarray, "..."], num_levels: int, num_components: int
) -> baselines.Density:
  """Probabilistic PCA of x + u, u uniform on [0, 1]^D.

    log P(x) >= E log N(x + u; m + 1/2, C) = log N(x; m, C) - tr(C^-1) / 24

  without sampling, where C is `probabilistic_pca`'s covariance plus 1/12, the
  variance of u. Samples are rounded as those of `gaussian_mixture`.

  Args:
    levels: training data, integers or booleans, [N, D].
    num_levels: number of levels L, at least 2.
    num_components: q, from 1 to D - 1, below N.

  Returns:
    The density, whose log_prob is that lower bound.

  Raises:
    ValueError: levels are not integers in 0, ..., L - 1, or num_components is
      out of range.
    ImportError: scikit-learn is not installed.
  """
  levels = baselines.check_levels(levels, num_levels)
  mean, covariance = probabilistic_pca(levels.astype(float), num_components)
  root = np.linalg.cholesky(covariance + np.eye(len(mean)) / 12)
  inverse = np.linalg.inv(root)
  scale = len(mean) * math.log(2 * math.pi) / 2 + np.log(np.diag(root)).sum()
  scale += (inverse**2).sum() / 24

  def log_prob(levels):
    z = (
      baselines.check_levels(levels, num_levels, len(mean)) - mean
    ) @ inverse.T
    return -(z**2).sum(1) / 2 - scale

  def sample(rng, number):
    z = rng.standard_normal((number, len(mean)))
    return _rounded(mean + 0.5 + z @ root.T, num_levels)

  return baselines.Density(f"PCA, {num_components}", BOUND, log_prob, sample)


def _rounded(x, num_levels):
  return np.clip(np.floor(x), 0, num_levels - 1).astype(np.int64)


def _scikit_learn():
  try:
    import sklearn
    from sklearn import decomposition, exceptions, mixture  # noqa: F401
  except ModuleNotFoundError:
    raise ImportError(
      "the baselines need scikit-learn: pip install 'jaxgen[data]'"
    ) from None
  return sklearn


def _fit(rng, levels, num_levels, num_components, covariance, reg_covar):
  """Scikit-learn's mixture of x + u."""
  levels = baselines.check_levels(levels, num_levels)
  baselines.check_range("num_components", num_components, 1, len(levels))
  library, seed = _scikit_learn(), int(rng.integers(2**31))
  model = library.mixture.GaussianMixture(
    num_components,
    covariance_type=covariance,
    reg_covar=reg_covar,
    max_iter=200,
    random_state=seed,
  )
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", library.exceptions.ConvergenceWarning)
    return model.fit(levels + rng.random(levels.shape))
