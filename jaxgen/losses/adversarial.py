"""Adversarial losses: functions of a discriminator's scores of two examples.

  r = D(data),  f = D(generated),   any real numbers, high on data

An Objective holds the losses of the discriminator and the generator, functions
of one pair (r, f), both to be minimised. For an optimal D, the mean of the
discriminator's loss is, up to sign and constants, a distance between the data
distribution P and the generated distribution Q:

  f_gan(d)         -D_d(P || Q)
  original         log 4 - 2 JS(P, Q)
  non_saturating   the same, with another generator's loss
  least_squares    E_Q[p / (p + q)] / 2
  hinge            2 - 2 TV(P, Q)
  relativistic     log 2 - JS(P x Q, Q x P)
  wasserstein      -W1(P, Q), if D is 1-Lipschitz (losses.wasserstein)

References: at each function.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import costs

softplus = jax.nn.softplus


class Objective(NamedTuple):
  """The two losses of a game on scores, each (r [], f []) -> [].

  Attributes:
    discriminator: loss of the discriminator.
    generator: loss of the generator; depends on r only if relativistic.
  """

  discriminator: Callable
  generator: Callable


class Divergence(NamedTuple):
  """An f-divergence D(P || Q) = E_Q f(p / q) and its dual.

  Attributes:
    f: convex, with f(1) = 0, except for gan, where it is -log 4. f(0) is the
      limit, infinite only for reverse_kullback_leibler.
    activation: g, which maps a score into the domain of f's conjugate.
    conjugate: f*(g(score)), as a function of the score.
    optimal: p / q -> the score at which the dual is attained, g = f'(p / q).

  Reference: Nowozin et al. 2016, arXiv:1606.00709, tables 1 and 2.
  """

  f: Callable
  activation: Callable
  conjugate: Callable
  optimal: Callable


def kullback_leibler() -> Divergence:
  """KL(P || Q): f = u log u."""
  return Divergence(
    f=_u_log_u,
    activation=lambda v: v,
    conjugate=lambda v: jnp.exp(v - 1),
    optimal=lambda u: 1 + jnp.log(u),
  )


def reverse_kullback_leibler() -> Divergence:
  """KL(Q || P): f = -log u."""
  return Divergence(
    f=lambda u: -jnp.log(u),
    activation=lambda v: -jnp.exp(-v),
    conjugate=lambda v: v - 1,
    optimal=jnp.log,
  )


def pearson() -> Divergence:
  """chi^2(P || Q): f = (u - 1)^2."""
  return Divergence(
    f=lambda u: (u - 1) ** 2,
    activation=lambda v: v,
    conjugate=lambda v: v**2 / 4 + v,
    optimal=lambda u: 2 * (u - 1),
  )


def squared_hellinger() -> Divergence:
  """The integral of (sqrt p - sqrt q)^2: f = (sqrt u - 1)^2."""
  return Divergence(
    f=lambda u: (jnp.sqrt(u) - 1) ** 2,
    activation=lambda v: 1 - jnp.exp(-v),
    conjugate=jnp.expm1,
    optimal=lambda u: jnp.log(u) / 2,
  )


def jensen_shannon() -> Divergence:
  """2 JS(P, Q): f = u log u - (u + 1) log((u + 1) / 2)."""
  log_2 = math.log(2)
  return Divergence(
    f=lambda u: _u_log_u(u) - (u + 1) * jnp.log((u + 1) / 2),
    activation=lambda v: log_2 - softplus(-v),
    conjugate=lambda v: softplus(v) - log_2,
    optimal=jnp.log,
  )


def gan() -> Divergence:
  """2 JS(P, Q) - log 4: f = u log u - (u + 1) log(u + 1)."""
  return Divergence(
    f=lambda u: _u_log_u(u) - (u + 1) * jnp.log(u + 1),
    activation=lambda v: -softplus(-v),
    conjugate=softplus,
    optimal=jnp.log,
  )


def total_variation() -> Divergence:
  """TV(P, Q): f = |u - 1| / 2; the dual is attained at infinite scores."""
  return Divergence(
    f=lambda u: jnp.abs(u - 1) / 2,
    activation=lambda v: jnp.tanh(v) / 2,
    conjugate=lambda v: jnp.tanh(v) / 2,
    optimal=lambda u: jnp.where(u > 1, jnp.inf, -jnp.inf),
  )


def _u_log_u(u):
  """u log u, 0 with slope -infinity at 0, where u * jnp.log(u) gives NaN."""
  return -jax.scipy.special.entr(u)


def f_gan(divergence: Divergence) -> Objective:
  """The game of an f-divergence: losses -g(r) + f*(g(f)), and -f*(g(f)).

  Reference: Nowozin et al. 2016, arXiv:1606.00709, eq. 6.
  """
  return Objective(
    lambda r, f: -divergence.activation(r) + divergence.conjugate(f),
    lambda r, f: -divergence.conjugate(f),
  )


def original() -> Objective:
  """Goodfellow's game, f_gan(gan()).

    log D(x) + log(1 - D(G)),   D a sigmoid of the score

  The generator's gradient vanishes where the scores saturate.

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, eq. 1.
  """
  return f_gan(gan())


def non_saturating() -> Objective:
  """The discriminator of `original`; the generator maximises log D(G).

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, section 3.
  """
  return Objective(original().discriminator, lambda r, f: softplus(-f))


def least_squares() -> Objective:
  """Losses (r - 1)^2 / 2 + f^2 / 2, and (f - 1)^2 / 2.

  Reference: Mao et al. 2017, arXiv:1611.04076, eq. 9.
  """
  return Objective(
    lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2
  )


def hinge() -> Objective:
  """Losses max(0, 1 - r) + max(0, 1 + f), and -f.

  Reference: Lim and Ye 2017, arXiv:1705.02894.
  """
  return Objective(
    lambda r, f: jax.nn.relu(1 - r) + jax.nn.relu(1 + f), lambda r, f: -f
  )


def wasserstein() -> Objective:
  """Losses f - r, and -f; losses.wasserstein bounds the critic's slope.

  Reference: Arjovsky et al. 2017, arXiv:1701.07875.
  """
  return Objective(lambda r, f: f - r, lambda r, f: -f)


def relativistic() -> Objective:
  """Losses softplus(f - r), and softplus(r - f): which of a pair is real.

  With `zero_centred` on data (R1) and on generated examples (R2), it is R3GAN.

  Reference: Jolicoeur-Martineau 2018, arXiv:1807.00734; Huang et al. 2025,
  arXiv:2501.05441, eq. 2.
  """
  return Objective(lambda r, f: softplus(f - r), lambda r, f: softplus(r - f))


def zero_centred(
  critic_fn: Callable, x: Float[Array, "*D"]
) -> Float[Array, ""]:
  """|grad D(x)|^2 at one example: the R1 penalty on data, R2 on generated ones.

  Add it with weight gamma / 2, or, if evaluated only every k-th step, with
  weight k gamma / 2 (lazy regularisation).

  Args:
    critic_fn: D, [*D] -> [].
    x: an example, [*D].

  Reference: Mescheder et al. 2018, arXiv:1801.04406, eq. 9; Karras et al. 2020,
  arXiv:1912.04958 (lazy).
  """
  return jnp.sum(jax.grad(lambda x: costs.value(critic_fn, x))(x) ** 2)
