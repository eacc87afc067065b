"""A step of a gradient flow in W2 as a loss: the JKO scheme by convex networks.

  rho' = argmin  F(rho') + W2^2(rho, rho') / (2 tau),
  F(rho) = E V(x) + beta E log rho(x)

Every rho' is the image of rho under the gradient of a convex psi (Brenier), and
E log rho' = E log rho - E log det Hessian psi, so psi is found from samples of
rho alone. With V = -log p and beta = 1, F is KL(rho | p) and the steps follow
the Fokker-Planck equation, at first order in tau.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import costs


def step(
  potential_fn: Callable,
  x: Float[Array, "D"],
  *,
  energy_fn: Callable,
  tau: float,
  entropy: float = 1.0,
) -> Float[Array, ""]:
  """The objective of one JKO step, at one sample of rho.

    V(T(x)) - beta log det Hessian psi(x) + |T(x) - x|^2 / (2 tau),
    T = grad psi

  Its mean over samples of rho is F(rho') + W2^2 / (2 tau), less beta E log rho.
  The determinant costs D products with the Hessian and its factorisation.

  Args:
    potential_fn: psi, [D] -> [], strictly convex and twice differentiable, such
      as models.icnn.ICNN with strength above 0, parameters bound.
    x: a sample of rho, [D].
    energy_fn: V, [D] -> [].
    tau: length of the step in the flow's time, positive.
    entropy: beta, at least 0; 0 leaves out the determinant.

  Returns:
    The value, []; infinite where the Hessian is singular.

  Raises:
    ValueError: tau is not positive, entropy is negative, or psi(x) is not a
      scalar.

  Reference: Jordan, Kinderlehrer and Otto 1998, SIAM Journal on Mathematical
  Analysis 29(1); Mokrov et al. 2021, arXiv:2106.00736, eq. 9; Alvarez-Melis et
  al. 2021, arXiv:2106.00774.
  """
  if not tau > 0:
    raise ValueError(f"tau: expected a positive number, got {tau}")
  if not entropy >= 0:
    raise ValueError(f"entropy: expected at least 0, got {entropy}")
  psi = lambda x: costs.value(potential_fn, x)
  moved = jax.grad(psi)(x)
  value = energy_fn(moved) + costs.square(moved, x) / (2 * tau)
  if not entropy:
    return value
  return value - entropy * jnp.linalg.slogdet(jax.hessian(psi)(x))[1]
