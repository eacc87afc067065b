"""Use of the coordinates of a latent: which of them depend on the data.

A coordinate whose posterior equals the prior for all data carries nothing
(posterior collapse): the mean of its posterior is constant.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class ActiveUnits(NamedTuple):
  """How many coordinates of a latent are in use.

  Attributes:
    number: number of coordinates with a variance above the threshold, [].
    variances: variance over the data of each coordinate's posterior mean, [Z].
  """

  number: Int[Array, ""]
  variances: Float[Array, "Z"]


def active_units(
  means: Float[Array, "N Z"], threshold: float = 0.01
) -> ActiveUnits:
  """The coordinates whose posterior mean varies with the data.

    Var_x(E_q(z_i | x)[z_i]) > threshold

  Args:
    means: means of the posteriors of N examples, [N, Z], for the prior N(0, I).
    threshold: variance above which a coordinate is active, at least 0.

  Raises:
    ValueError: there are fewer than two examples, or threshold is negative.

  Reference: Burda et al. 2016, arXiv:1509.00519, appendix C.
  """
  if len(means) < 2:
    raise ValueError(f"means: expected at least 2 examples, got {len(means)}")
  if not threshold >= 0:
    raise ValueError(f"threshold: expected at least 0, got {threshold}")
  variances = jnp.var(means, axis=0, ddof=1)
  return ActiveUnits(jnp.sum(variances > threshold), variances)
