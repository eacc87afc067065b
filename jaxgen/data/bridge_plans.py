"""Random entropic plans that are known exactly: offline benchmarks.

  p(y | x) ~ N(y; x, eps I) sum_k w_k N(y; mu_k, S_k),   x ~ N(0, I),

for eps = std^2: the optimum between N(0, I) and the distribution of y, see
entropic_plans. The published ones (Gushchin et al. 2023) have this form but are
a download; these are drawn from a key, so the figures are not comparable.

Reference: Gushchin et al. 2023, arXiv:2306.10161, section 4.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxgen import entropic_plans, keys


def draw(
  key: Array,
  dim: int,
  std: float,
  *,
  num_components: int = 5,
  radius: float = 3.0,
) -> entropic_plans.Potential:
  """A random plan, whose components differ in their axes and weigh the same.

    mu_k uniform on the sphere of the radius,   w_k = 1 / K
    S_k = Q_k diag(exp linspace(log .5, log 2)) Q_k^T,   Q_k uniform

  All S_k have the same spectrum, so that no component is too rare to be seen.

  Args:
    key: of the means and the axes.
    dim: D, at least 2.
    std: of the Brownian motion, positive.
    num_components: K, at least 1.
    radius: at least 0.

  Raises:
    ValueError: a number is out of range, or key is a legacy key.
  """
  keys.require_typed(key)
  for name, number, least in (
    ("dim", dim, 2),
    ("num_components", num_components, 1),
    ("radius", radius, 0),
  ):
    if not number >= least:
      raise ValueError(f"{name}: expected at least {least}, got {number}")
  if not std > 0:
    raise ValueError(f"std: expected a positive number, got {std}")
  mean_key, axis_key = jax.random.split(key)
  means = jax.random.normal(mean_key, (num_components, dim))
  means = radius * means / jnp.linalg.norm(means, axis=1, keepdims=True)
  basis = jax.random.orthogonal(axis_key, dim, (num_components,))
  spectrum = jnp.exp(jnp.linspace(jnp.log(0.5), jnp.log(2.0), dim))
  variances = jnp.broadcast_to(spectrum, (num_components, dim))
  weights = jnp.full(num_components, 1 / num_components)
  return entropic_plans.from_bridge(weights, means, variances, basis, std)


def sample(
  plan: entropic_plans.Potential, key: Key[Array, ""]
) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
  """(data, source) of the plan, the source from N(0, I), [D] each."""
  source_key, data_key = jax.random.split(key)
  source = jax.random.normal(source_key, plan.means.shape[1:])
  return plan.sample(data_key, source), source
