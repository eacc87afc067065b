"""The variational information bottleneck: a classifier of noisy latents.

  -log p(label | z) + beta KL(q(z | x) || N(0, I)),   z = mean + std noise

The means of rate (the KL) and distortion (the cross entropy) over data, for
many beta, are the points of the rate-distortion curve. The rate bounds the
information of z about x from above, and H(label) - distortion bounds that about
the label from below.

Reference: Alemi et al. 2017, arXiv:1612.00410.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import outputs
from jaxgen.losses import variational


class Bottleneck(NamedTuple):
  """The loss of one example and its parts.

  Attributes:
    loss: distortion + beta rate, [].
    distortion: cross entropy -log p(label | z), [], in nats.
    rate: KL(q(z | x) || N(0, I)), [], in nats.
    logits: the classifier's output, [C].
  """

  loss: Float[Array, ""]
  distortion: Float[Array, ""]
  rate: Float[Array, ""]
  logits: Float[Array, "C"]


def information_bottleneck(
  classify_fn: Callable,
  posterior: variational.Gaussian,
  noise: Float[Array, "*Z"],
  label: Int[Numeric, ""],
  *,
  beta: Numeric,
) -> Bottleneck:
  """Cross entropy of a label given a sample of q(z | x), plus beta KL.

  Args:
    classify_fn: z -> logits of the classes, [C], parameters bound.
    posterior: q(z | x).
    noise: a standard normal sample, [*Z].
    label: class of the example, from 0 to C - 1; others give NaN.
    beta: weight of the rate, at least 0.

  Raises:
    ValueError: the shapes differ, or there are fewer than two logits.

  Reference: Alemi et al. 2017, arXiv:1612.00410, eq. 17.
  """
  logits = classify_fn(variational.sample(posterior, noise))
  if jnp.ndim(logits) != 1:
    raise ValueError(f"logits: expected shape [C], got {jnp.shape(logits)}")
  label = jnp.asarray(label)
  distortion = -outputs.categorical(len(logits)).log_prob(logits, label)
  rate = jnp.sum(variational.kl(posterior))
  return Bottleneck(distortion + beta * rate, distortion, rate, logits)
