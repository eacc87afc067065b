"""LightSB: a Schrodinger bridge by the maximum likelihood of its potential.

  E_source log c(source) - E_data log v(data)

for v, a mixture of Gaussians, and its normaliser c (entropic_plans.Potential).
Whatever the pairing, this is KL(plan* | plan of v) + a constant, so the exact
plan has the least loss; nothing is simulated, and unpaired samples suffice. The
optimum is exact if the true potential is such a mixture, and otherwise the
plan of this class that is closest in KL.

Reference: Korotin et al. 2023, arXiv:2310.01174, proposition 3.1 and eq. 11.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import entropic_plans


class Params(NamedTuple):
  """What is learned: any real numbers, a pytree.

  Attributes:
    log_weights: [K].
    means: [K, D].
    log_variances: [K, D].
    turns: of which `potential` takes the skew-symmetric part, [K, D, D]; None
      for axes along the coordinates.
  """

  log_weights: Float[Array, "K"]
  means: Float[Array, "K D"]
  log_variances: Float[Array, "K D"]
  turns: Float[Array, "K D D"] | None


def start(data: Float[Array, "K D"], std: float, *, turned: bool) -> Params:
  """Parameters to start from: a component at each of K examples of the data.

  Their variance is that of the plan whose data have the mean variance s of
  these examples, (1 / eps + 1 / s)^-1.

  Args:
    data: as many examples as components, at least 2, [K, D].
    std: of the Brownian motion, positive; eps is its square.
    turned: whether components have axes of their own (full covariances).

  Raises:
    ValueError: there are fewer than two examples, or std is not positive.
  """
  if len(data) < 2:
    raise ValueError(f"data: expected at least 2 examples, got {len(data)}")
  if not std > 0:
    raise ValueError(f"std: expected a positive number, got {std}")
  num, dim = data.shape
  eps, variance = std**2, jnp.var(data, axis=0, ddof=1).mean()
  ratio = variance / (eps + variance)
  logs = jnp.broadcast_to(jnp.log(eps * ratio), (num, dim))
  zeros = jnp.zeros((num, dim, dim), data.dtype) if turned else None
  return Params(jnp.zeros(num, data.dtype), data * (1 - ratio), logs, zeros)


def potential(params: Params, std: ArrayLike) -> entropic_plans.Potential:
  """The potential of the parameters, whose basis is Cayley's,

  Q = (I + W)^-1 (I - W),   W = turns - turns^T
  """
  basis = None
  if params.turns is not None:
    skew = params.turns - jnp.swapaxes(params.turns, 1, 2)
    one = jnp.broadcast_to(jnp.eye(skew.shape[1], dtype=skew.dtype), skew.shape)
    basis = jnp.linalg.solve(one + skew, one - skew)
  return entropic_plans.Potential(
    params.log_weights, params.means, jnp.exp(params.log_variances), basis, std
  )


def light_bridge(
  plan: entropic_plans.Potential,
  data: Float[Array, "D"],
  source: Float[Array, "D"],
) -> Float[Array, ""]:
  """log c(source) - log v(data), of one example of each, paired in any way.

  Args:
    plan: the potential, from `potential`.
    data: [D].
    source: [D].

  Returns:
    The loss, []. Reduce over a batch with vmap and mean.

  Raises:
    ValueError: shapes differ from the potential's.
  """
  return plan.log_normalizer(source) - plan.log_potential(data)
