"""Diffusions between two Gaussians, with exact drifts at every time.

For data ~ N(m, A), source ~ N(n, B) with Cov(data, source) = C, and

  x_t = (1 - t) data + t source + std sqrt(t (1 - t)) z,   z ~ N(0, I)

(t = 0 is data and t = 1 the source), x_t is Gaussian with

  mean        (1 - t) m + t n
  covariance  V = (1 - t)^2 A + t^2 B + t (1 - t) (C + C^T + std^2 I)

and the conditional means of the ends give affine drifts, without the division
by t or 1 - t:

  (E[source | x_t] - x_t) / (1 - t) = n - m + F V^-1 (x_t - mean),
    F = (1 - t) (C^T - A) + t (B - C - std^2 I)
  (E[data | x_t] - x_t) / t         = m - n + G V^-1 (x_t - mean),
    G = (1 - t) (A - C^T - std^2 I) + t (C - B)

The diffusions dx = drift dt + std dW with these drifts, one in each direction
of time, are the same process: the Markovian projection of the pinned paths.
Its covariance of the ends is `transported`, another one than C, except for

  C = (A^1/2 D A^-1/2 - std^2 I) / 2,
  D = (4 A^1/2 B A^1/2 + std^4 I)^1/2

that of the Schrodinger bridge, the diffusion between the two Gaussians that is
closest in relative entropy to std times a Brownian motion.

References: Bunne et al. 2022, arXiv:2202.05722, theorem 3; Janati et al. 2020,
arXiv:2006.02572, theorem 1; Shi et al. 2023, arXiv:2303.16852, proposition 2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jaxgen import dtypes, fields


class Gaussians(NamedTuple):
  """Pinned paths between two Gaussians, a pytree of arrays.

  Attributes:
    data_mean: m, [D].
    data_covariance: A, [D, D].
    source_mean: n, [D].
    source_covariance: B, [D, D].
    cross: C = Cov(data, source), [D, D].
    std: of the Brownian motion, per square root of time, [].
  """

  data_mean: Float[ArrayLike, "D"]
  data_covariance: Float[ArrayLike, "D D"]
  source_mean: Float[ArrayLike, "D"]
  source_covariance: Float[ArrayLike, "D D"]
  cross: Float[ArrayLike, "D D"]
  std: Float[ArrayLike, ""]

  def mean(self, t: Float[ArrayLike, ""]) -> Float[Array, "D"]:
    """E x_t, [D]."""
    m, n = jnp.asarray(self.data_mean), jnp.asarray(self.source_mean)
    return m + jnp.asarray(t, m.dtype) * (n - m)

  def covariance(self, t: Float[ArrayLike, ""]) -> Float[Array, "D D"]:
    """V, the covariance of x_t, [D, D]."""
    a, b, c = self._covariances()
    t = jnp.asarray(t, c.dtype)
    ends = (1 - t) ** 2 * a + t**2 * b
    return ends + t * (1 - t) * (c + c.T + self._noise())

  def estimate(
    self, x: Float[Array, "D"], t: Float[ArrayLike, ""]
  ) -> tuple[fields.Estimate, Float[Array, "D"], Float[Array, "D"]]:
    """(velocity, score and log_prob; drift to the source; drift to the data).

    Args:
      x: a value of x_t, [D].
      t: time, [], in [0, 1].
    """
    dtype = dtypes.wider(x.dtype)
    wide = Gaussians(*(jnp.asarray(leaf, dtype) for leaf in self))
    t = jnp.asarray(t, dtype)
    a, b, c = wide._covariances()
    noise = wide._noise()
    delta, variance = x.astype(dtype) - wide.mean(t), wide.covariance(t)
    with jax.default_matmul_precision("highest"):
      pull = jnp.linalg.solve(variance, delta)
      up = ((1 - t) * (c.T - a) + t * (b - c - noise)) @ pull
      down = ((1 - t) * (a - c.T - noise) + t * (c - b)) @ pull
    speed = jnp.asarray(wide.source_mean) - jnp.asarray(wide.data_mean)
    to_source, to_data = speed + up, down - speed
    log_prob = -(
      delta @ pull
      + jnp.linalg.slogdet(variance)[1]
      + len(delta) * jnp.log(2 * jnp.pi)
    )
    found = fields.Estimate((to_source - to_data) / 2, -pull)
    found = found._replace(log_prob=log_prob / 2)
    return jax.tree.map(
      lambda leaf: leaf.astype(x.dtype), (found, to_source, to_data)
    )

  def to_source(
    self, x: Float[Array, "D"], t: Float[ArrayLike, ""]
  ) -> Float[Array, "D"]:
    """The drift of the diffusion that runs with increasing time, [D]."""
    return self.estimate(x, t)[1]

  def to_data(
    self, x: Float[Array, "D"], t: Float[ArrayLike, ""]
  ) -> Float[Array, "D"]:
    """The drift, per time, of that which runs with decreasing time, [D]."""
    return self.estimate(x, t)[2]

  def field(self) -> fields.Field:
    """The exact field of x_t: velocity, score and log_prob."""
    return fields.Field(lambda x, t: self.estimate(x, t)[0])

  def sample(
    self, key: Key[Array, ""]
  ) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
    """One pair (data, source), each [D]."""
    a, b, c = self._covariances()
    root = jnp.linalg.cholesky(jnp.block([[a, c], [c.T, b]]))
    z = jax.random.normal(key, (2 * len(a),), jnp.result_type(float))
    with jax.default_matmul_precision("highest"):
      data, source = jnp.split(root @ z, 2)
    m, n = jnp.asarray(self.data_mean), jnp.asarray(self.source_mean)
    return m + data, n + source

  def transported(self, num_steps: int = 200) -> Float[Array, "D D"]:
    """Cov(data, source) of the diffusion with these drifts, [D, D].

    A P^T with P the solution of dP/dt = F V^-1 P, P(0) = I, by the Runge-Kutta
    method of order four. `_replace(cross=...)` by it is one step of iterative
    Markovian fitting.

    Args:
      num_steps: of the method, at least 1.
    """
    slope = jax.jacfwd(self.to_source)
    at = lambda t, p: slope(self.mean(t), t) @ p
    h, start = 1 / num_steps, jnp.asarray(self.data_covariance)

    def step(p, t):
      first = at(t, p)
      second = at(t + h / 2, p + h / 2 * first)
      third = at(t + h / 2, p + h / 2 * second)
      fourth = at(t + h, p + h * third)
      return p + h / 6 * (first + 2 * second + 2 * third + fourth), None

    times = h * jnp.arange(num_steps, dtype=start.dtype)
    moved = jax.lax.scan(step, jnp.eye(len(start), dtype=start.dtype), times)
    return start @ moved[0].T

  def _noise(self):
    """std^2 I, [D, D]."""
    dim, square = len(jnp.asarray(self.cross)), jnp.asarray(self.std) ** 2
    return square * jnp.eye(dim, dtype=square.dtype)

  def _covariances(self):
    """A, B and C."""
    found = self.data_covariance, self.source_covariance, self.cross
    return tuple(map(jnp.asarray, found))


def schrodinger(
  data_mean: Float[ArrayLike, "..."],
  data_covariance: Float[ArrayLike, "..."],
  source_mean: Float[ArrayLike, "..."],
  source_covariance: Float[ArrayLike, "..."],
  *,
  std: float,
) -> Gaussians:
  """The Schrodinger bridge between two Gaussians, in closed form.

  C is computed on the host in float64. The bridge's pairs are those of the
  entropic plan of |data - source|^2 with regularisation 2 std^2.

  Args:
    data_mean: m, [D].
    data_covariance: A, symmetric and positive definite, [D, D].
    source_mean: n, [D].
    source_covariance: B, symmetric and positive definite, [D, D].
    std: of the Brownian motion, per square root of time, positive.

  Raises:
    ValueError: the shapes disagree, a covariance is not symmetric and positive
      definite, or std is not positive.
  """
  if not 0 < std < np.inf:
    raise ValueError(f"std: expected a positive number, got {std}")
  given = data_mean, source_mean, data_covariance, source_covariance
  *means, a, b = (np.asarray(value, np.float64) for value in given)
  dim = len(means[0]) if means[0].ndim == 1 else 0
  for name, value, shape in (
    ("data_mean", means[0], (dim,)),
    ("source_mean", means[1], (dim,)),
    ("data_covariance", a, (dim, dim)),
    ("source_covariance", b, (dim, dim)),
  ):
    if not dim or value.shape != shape:
      raise ValueError(
        f"{name}: expected shape {list(shape)} with D the length of data_mean,"
        f" got {list(value.shape)}"
      )
    if value.ndim == 2:
      _check_covariance(name, value)
  values, basis = np.linalg.eigh(a)
  root, inverse = ((basis * values**power) @ basis.T for power in (0.5, -0.5))
  inner, axes = np.linalg.eigh(4 * root @ b @ root)
  middle = (axes * np.sqrt(np.maximum(inner, 0) + std**4)) @ axes.T
  cross = (root @ middle @ inverse - std**2 * np.eye(dim)) / 2
  return Gaussians(means[0], a, means[1], b, cross, np.float64(std))


def _check_covariance(name, value):
  symmetric = np.allclose(value, value.T, rtol=1e-5, atol=1e-8)
  if not symmetric or not np.linalg.eigvalsh(value)[0] > 0:
    raise ValueError(
      f"{name}: expected a symmetric, positive definite matrix, got"
      f" {value.tolist()}"
    )
