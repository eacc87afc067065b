"""The solvers that tests of all of them run through; counts of evaluations."""

import jax
import jax.numpy as jnp

from jaxgen import fields, samplers

NORMAL = fields.from_log_density(lambda x: -jnp.sum(x**2) / 2)
MANY = (
  samplers.euler(),
  samplers.midpoint(),
  samplers.heun(),
  samplers.rk4(),
  samplers.adams_bashforth(3),
  samplers.ddim(),
  samplers.dpm_solver_2s(),
  samplers.dpm_solver_3s(),
  samplers.dpmpp_2s(),
  samplers.dpmpp_2m(),
  samplers.dpmpp_3m(),
  samplers.deis(3),
  samplers.unipc(2),
  samplers.unipc(3),
  samplers.euler_maruyama(),
  samplers.ancestral(),
  samplers.ddim(0.5),
  samplers.churn(1.0),
  samplers.dpmpp_sde(),
  samplers.dpmpp_2m_sde(),
  samplers.seeds_2(),
  samplers.predictor_corrector(samplers.ddim(), 2),
  samplers.annealed(2),
)
SOLVERS = {solver.name: solver for solver in MANY}
DETERMINISTIC = set(list(SOLVERS)[:14])
# One of each kind, for what is the driver's own.
FEW = ("euler", "heun", "churn", "unipc(3)", "dpmpp_sde", "annealed")


def counted(field):
  """The field, and a list that grows by the time of each evaluation.

  It is complete after jax.effects_barrier().
  """
  times = []

  def estimate(x, t):
    jax.debug.callback(lambda t: times.append(float(t)), t)
    return field(x, t)

  return fields.Field(estimate, field.path), times
