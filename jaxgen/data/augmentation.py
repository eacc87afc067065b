"""Random changes of one example inside a loss, or of a batch before it.

`shift` moves one image. The others average the examples of a batch in pairs:
`mix` with given weights, `mixup` with random ones, of inputs and targets alike,
`mix_inputs` of the inputs alone, and `sample_pairing` of the inputs with weight
1/2. The partners are row numbers, such as `jax.random.permutation(key, N)`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree

from jaxgen import keys


def shift(
  key: Key[Array, ""], x: Float[Array, "H W C"], probability: float
) -> Float[Array, "H W C"]:
  """The image moved by up to a pixel each way, with this probability.

  Each of the nine moves is equally likely. What comes in is -1, black. In an
  adversarial game both players see the same distribution of moves.

  Args:
    key: decides whether and where the image moves.
    x: the image, [H, W, C].
    probability: that it moves, from 0 to 1.
  """
  move_key, moved_key = jax.random.split(key)
  moved = jax.random.bernoulli(moved_key, probability)
  first = jnp.where(moved, jax.random.randint(move_key, (2,), 0, 3), 1)
  wide = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-1.0)
  return jax.lax.dynamic_slice(wide, (first[0], first[1], 0), x.shape)


def mix(
  batch: PyTree, partners: Int[Array, "N"], weights: Float[Array, "N"]
) -> PyTree:
  """Averages each example of a batch with its partner.

    mixed_i = w_i x_i + (1 - w_i) x_partners(i)

  Args:
    batch: floats [N, ...], or a pytree of them, such as images and one-hot
      labels; all leaves of example i have the same weight.
    partners: row numbers, [N]. A row outside of the batch gives NaN.
    weights: w, from 0 to 1, [N].

  Returns:
    The mixed batch, of the same structure, shapes and dtypes.

  Raises:
    ValueError: a leaf has no floats or another number of rows.
  """
  number = len(partners)

  def one(x):
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.shape[:1] != (number,):
      raise ValueError(
        f"batch: expected floats of {number} rows, got {x.dtype}{list(x.shape)}"
      )
    w = weights.astype(x.dtype).reshape(number, *[1] * (x.ndim - 1))
    return w * x + (1 - w) * jnp.take(x, partners, axis=0)

  return jax.tree.map(one, batch)


def mixup(
  key: Key[Array, ""],
  batch: PyTree,
  partners: Int[Array, "N"],
  alpha: Float[ArrayLike, ""],
) -> PyTree:
  """mixup: averages of inputs and targets with weights that are sampled.

    w_i ~ Beta(alpha, alpha), one for each example, in `mix`

  Args:
    key: a typed key.
    batch, partners: as in `mix`; targets of cross-entropy are one-hot.
    alpha: positive. Weights are close to 0 or 1 if it is small, uniform if it
      is 1.

  Returns:
    The mixed batch.

  Raises:
    ValueError: key is not a typed key, alpha is not positive, or as in `mix`.

  Reference: Zhang et al. 2017, arXiv:1710.09412, eq. 1.
  """
  return mix(batch, partners, _beta(key, alpha, 0, len(partners)))


def mix_inputs(
  key: Key[Array, ""],
  inputs: PyTree,
  partners: Int[Array, "N"],
  alpha: Float[ArrayLike, ""],
) -> PyTree:
  """mixup of the inputs alone, for a loss with each example's own target.

    w_i ~ Beta(alpha + 1, alpha), one for each example, in `mix`

  The expectation of a loss that is linear in the target, such as cross-entropy,
  is that of `mixup`, if a pair is as likely as the reversed one (random
  partners). With m(w) = w x + (1 - w) x', exchanging the pair and w with 1 - w
  in the second term,

    E[w l(m, y) + (1 - w) l(m, y')] = E[2 w l(m, y)],   w ~ Beta(alpha, alpha),

  and 2 w times the density of Beta(alpha, alpha) is that of
  Beta(alpha + 1, alpha).

  Args:
    key: a typed key.
    inputs, partners: as in `mix`, without the targets.
    alpha: as in `mixup`, positive.

  Returns:
    The mixed inputs, with the targets unchanged.

  Raises:
    ValueError: as in `mixup`.
  """
  return mix(inputs, partners, _beta(key, alpha, 1, len(partners)))


def sample_pairing(inputs: PyTree, partners: Int[Array, "N"]) -> PyTree:
  """SamplePairing: the means of pairs of inputs; targets are left unchanged.

    mixed_i = (x_i + x_partners(i)) / 2

  Args, Returns and Raises: as in `mix_inputs`, without random numbers.

  Reference: Inoue 2018, arXiv:1801.02929.
  """
  return mix(inputs, partners, jnp.full(len(partners), 0.5))


def _beta(key, alpha, more, number):
  """Weights [number] of the distribution Beta(alpha + more, alpha)."""
  keys.require_typed(key)
  if not isinstance(alpha, jax.core.Tracer) and not alpha > 0:
    raise ValueError(f"alpha: expected a positive number, got {alpha}")
  return jax.random.beta(key, alpha + more, alpha, (number,))
