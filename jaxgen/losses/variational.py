"""Variational bounds on log p(x) of a model with latents z, in nats.

  log p(x) >= E_q(z | x)[log p(x | z)] - KL(q(z | x) || p(z))

The posterior q is a Gaussian with independent coordinates, whose sample is
z = mean + exp(log_std) noise. Everything here takes one example and the drawn
noise. Logarithms of probabilities are sums over coordinates; the caller takes
the mean over a batch. p(x | z) is a function of z alone, the example bound:
losses.decoders has several. losses.importance has bounds from many samples.

References: Kingma and Welling 2014, arXiv:1312.6114; Rezende et al. 2014,
arXiv:1401.4082.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from jaxtyping import ArrayLike as Numeric

from jaxgen import costs


class Gaussian(NamedTuple):
  """A Gaussian with independent coordinates.

  Attributes:
    mean: [*Z].
    log_std: logarithm of the standard deviation, [*Z].
  """

  mean: Float[Array, "*Z"]
  log_std: Float[Array, "*Z"]


class Terms(NamedTuple):
  """The parts of a bound for one sample of the latents.

  Attributes:
    reconstruction: log p(x | z), [].
    kl: KL of each coordinate, [*Z], or of all, [], where it is sampled; a tuple
      with one entry per level for a hierarchy.
    latent: z, [*Z]; a tuple with one entry per level for a hierarchy.
  """

  reconstruction: Float[Array, ""]
  kl: Any
  latent: Any


def gaussian(
  mean: Float[Array, "..."], raw: Float[Array, "..."], bound: float = 7.0
) -> Gaussian:
  """The Gaussian of a network's two outputs, with log_std = bounded(raw).

  Args:
    mean: [*Z].
    raw: any real numbers, [*Z].
    bound: as in bounded.

  Raises:
    ValueError: the shapes differ, or bound is out of range.
  """
  costs.require_alike(mean=mean, raw=raw)
  return Gaussian(mean, bounded(raw, bound))


def bounded(raw: Float[Array, "*Z"], bound: float = 7.0) -> Float[Array, "*Z"]:
  """A log_std of any real number, bound tanh(raw / bound).

  Near 0 it is raw itself. The bound keeps variances and their inverses finite
  in float32 for every output of a network.

  Args:
    raw: any real numbers, [*Z].
    bound: largest absolute value, from above 0 to 20.

  Raises:
    ValueError: bound is out of range.
  """
  if not 0 < bound <= 20:
    raise ValueError(f"bound: expected above 0 to 20, got {bound}")
  return bound * jnp.tanh(raw / bound)


def sample(
  distribution: Gaussian, noise: Float[Array, "*Z"]
) -> Float[Array, "*Z"]:
  """mean + exp(log_std) noise, [*Z], for standard normal noise.

  Raises:
    ValueError: mean, log_std and noise differ in shape.
  """
  mean, log_std = distribution
  costs.require_alike(mean=mean, log_std=log_std, noise=noise)
  return mean + jnp.exp(log_std) * noise


def log_prob(
  distribution: Gaussian, value: Float[Array, "*Z"]
) -> Float[Array, ""]:
  """log N(value; mean, diag exp(2 log_std)), summed over coordinates, [].

  Raises:
    ValueError: mean, log_std and value differ in shape.
  """
  mean, log_std = distribution
  costs.require_alike(mean=mean, log_std=log_std, value=value)
  scaled = (value - mean) * jnp.exp(-log_std)
  constant = value.size * math.log(2 * math.pi) / 2
  return -jnp.sum(scaled**2 / 2 + log_std) - constant


def kl(posterior: Gaussian) -> Float[Array, "*Z"]:
  """KL(posterior || N(0, I)) of each coordinate, in nats, [*Z].

    (mean^2 + std^2 - 1) / 2 - log std

  Reference: Kingma and Welling 2014, arXiv:1312.6114, appendix B.
  """
  mean, log_std = posterior
  costs.require_alike(mean=mean, log_std=log_std)
  return (mean**2 + jnp.expm1(2 * log_std)) / 2 - log_std


def kl_between(posterior: Gaussian, prior: Gaussian) -> Float[Array, "*Z"]:
  """KL(posterior || prior) of each coordinate, in nats, [*Z].

  Raises:
    ValueError: the shapes differ.
  """
  costs.require_alike(posterior=posterior.mean, prior=prior.mean)
  shift = (posterior.mean - prior.mean) * jnp.exp(-prior.log_std)
  return kl(Gaussian(shift, posterior.log_std - prior.log_std))


def mixture(components: Gaussian) -> Callable[[Array], Array]:
  """The log-density of the mean of M Gaussians, a prior for sampled_elbo.

    log p(z) = log (1 / M) sum_m N(z; mean_m, diag std_m^2)

  Components that are the posteriors of M learned inputs are the VampPrior.

  Args:
    components: leaves [M, *Z].

  Returns:
    z [*Z] -> log p(z), [].

  Reference: Tomczak and Welling 2018, arXiv:1705.07120, eq. 9.
  """

  def prior_fn(z):
    log_p = jax.vmap(log_prob, (0, None))(components, z)
    return jax.nn.logsumexp(log_p) - math.log(len(components.mean))

  return prior_fn


def elbo(
  likelihood_fn: Callable, posterior: Gaussian, noise: Float[Array, "*Z"]
) -> Terms:
  """The terms of the bound for the prior N(0, I), with the analytic KL.

    log p(x | z) - KL(q || N(0, I)),   z = mean + std noise

  Args:
    likelihood_fn: log p(x | z), [*Z] -> [], parameters and example bound.
    posterior: q(z | x).
    noise: a standard normal sample, [*Z].

  Returns:
    The terms; `loss` adds them up.

  Raises:
    ValueError: the shapes differ, or likelihood_fn returns no scalar.

  Reference: Kingma and Welling 2014, arXiv:1312.6114, eq. 7.
  """
  z = sample(posterior, noise)
  return Terms(costs.value(likelihood_fn, z), kl(posterior), z)


def sampled_elbo(
  likelihood_fn: Callable,
  posterior: Gaussian,
  noise: Float[Array, "*Z"],
  *,
  prior_fn: Callable[[Array], Array],
) -> Terms:
  """The terms of the bound for any prior, with the KL of the sample.

    log p(x | z) - (log q(z | x) - log p(z)),   z = mean + std noise

  The sampled KL may be negative; its expectation is the KL.

  Args:
    likelihood_fn, posterior, noise: as in elbo.
    prior_fn: log p(z), [*Z] -> [], such as mixture(components).

  Raises:
    ValueError: as in elbo, or prior_fn returns no scalar.

  Reference: Kingma and Welling 2014, arXiv:1312.6114, eq. 6.
  """
  z = sample(posterior, noise)
  sampled = log_prob(posterior, z) - costs.value(prior_fn, z)
  return Terms(costs.value(likelihood_fn, z), sampled, z)


def hierarchy(
  likelihood_fn: Callable,
  levels: Sequence[Callable],
  noises: Sequence[Array],
) -> Terms:
  """The terms of a hierarchy of latents, inferred from the top down.

    p(x, z) = p(x | z_1) p(z_1 | z_2) ... p(z_L)
    q(z | x) = q(z_L | x) q(z_L-1 | z_L, x) ... q(z_1 | z_2, x)

  The KL of each level given the sample of the level above is analytic. Two
  levels are the usual number; the discrete diffusion bound is such a hierarchy
  of many levels with a fixed posterior.

  Args:
    likelihood_fn: log p(x | z_1), parameters and example bound.
    levels: for L, ..., 1, the function that takes the sample of the level above
      (None for L) to (posterior, prior), two Gaussians.
    noises: a standard normal sample for each level, in the same order.

  Returns:
    The terms; kl and latent have one entry per level, from L to 1.

  Raises:
    ValueError: the numbers of levels and noises differ or are 0, or the shapes
      of a level do.

  Reference: Sonderby et al. 2016, arXiv:1602.02282, eq. 15 to 17.
  """
  if not levels or len(levels) != len(noises):
    raise ValueError(
      f"noises: expected one for each of the {len(levels)} levels (at least 1),"
      f" got {len(noises)}"
    )
  z, kls, latents = None, [], []
  for level, noise in zip(levels, noises, strict=True):
    posterior, prior = level(z)
    z = sample(posterior, noise)
    kls.append(kl_between(posterior, prior))
    latents.append(z)
  log_p = costs.value(likelihood_fn, latents[-1])
  return Terms(log_p, tuple(kls), tuple(latents))


def free_bits(kl: Float[Array, "*Z"], least: Numeric) -> Float[Array, "*Z"]:
  """max(kl, least): no gradient pushes a coordinate's KL below `least` nats.

  Use it for the analytic KL, by terms._replace(kl=free_bits(terms.kl, least)).
  Kingma et al. apply it to the mean of the KL over a batch.

  Reference: Kingma et al. 2016, arXiv:1606.04934, appendix C.8.
  """
  return jnp.maximum(kl, least)


def loss(terms: Terms, beta: Numeric = 1.0) -> Float[Array, ""]:
  """-log p(x | z) + beta KL, in nats; minus the bound for beta = 1.

  Args:
    terms: from elbo, sampled_elbo or hierarchy.
    beta: weight of the KL, at least 0; it may be a function of the step.

  Reference: Higgins et al. 2017, beta-VAE, ICLR.
  """
  total = sum(jnp.sum(part) for part in jax.tree.leaves(terms.kl))
  return jnp.asarray(beta * total) - terms.reconstruction
