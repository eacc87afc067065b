"""Masked models of levels: a bound on the likelihood, and what is none.

A network gives the distribution of every masked entry from the visible ones,
P(x_i | x_visible), independently for the masked ones. With w the weight of
jaxgen.masks for the way that the visible entries were drawn,

  E w sum_(i masked) -log P(x_i | x_visible)
    = E_o sum_i -log P(x_(o_i) | x_(o_0), ..., x_(o_(i-1))) >= -log p(x)

with a uniformly random order o: the negative ELBO of masked diffusion is the
same for every schedule, and it is the mean negative log-likelihood over orders.
The weight makes it a bound. BERT's loss, a fixed fraction of masked entries and
the mean over them, is the same cross entropy with another weight; it bounds no
likelihood. Everything here takes one example.

Masking in training and none in use: a network whose first layer is linear in
its entries' vectors e_i, masked independently with probability r by a vector m,
receives in expectation (1 - r) e_i + r m. A network that is used without masks
receives this mean if its vectors are replaced by it (`expected_input`): exact
for that layer, as dropout's scaling is.

Reference: Sahoo et al. 2024, arXiv:2406.07524, eq. 10 (MDLM); Shi et al. 2024,
arXiv:2406.04329; Ou et al. 2024, arXiv:2406.03736 (any-order equality); Devlin
et al. 2019, arXiv:1810.04805 (BERT); He et al. 2022, arXiv:2111.06377 (MAE).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from jaxgen import masks, orders, outputs
from jaxgen.losses import autoregressive


def cross_entropy(
  params_fn: Callable[[Array], Array],
  levels: Num[Array, "*D"],
  visible: Bool[Array, "..."],
  *,
  output: outputs.Output,
) -> Float[Array, ""]:
  """sum_(i masked) -log P(x_i | x_visible), in nats.

  Times the weight of jaxgen.masks it is the negative ELBO; divided by the
  number of masked entries, the loss of BERT.

  Args:
    params_fn: tokens [*D], with the mask token L, -> parameters [*D, K].
    levels: integers from 0 to L - 1, [*D].
    visible: which entries the network sees, [*D].
    output: the distribution of one entry.

  Returns:
    The sum, []; NaN for traced levels that are out of range.

  Raises:
    ValueError: levels are no integers, concrete levels are out of range (the
      mask token is), or a shape is another one.
  """
  autoregressive.check_levels(levels, output)
  tokens = masks.hide(levels, visible, output.num_levels)
  params = autoregressive.checked_params(params_fn, tokens, output)
  nats = output.log_prob(params, levels)
  return -jnp.where(visible, 0, nats).sum()


def order_log_prob(
  params_fn: Callable[[Array], Array],
  levels: Num[Array, "*D"],
  order: Array | np.ndarray,
  *,
  output: outputs.Output,
  skip: int = 0,
) -> Float[Array, ""]:
  """log p(x) of the model that reveals its entries in one order, in nats.

    sum_(i >= skip) log P(x_(o_i) | x_(o_0), ..., x_(o_(i-1)))

  It is exact for that order, by D - skip evaluations of the network, one after
  the other. Its mean over random orders is the ELBO.

  Args:
    params_fn, levels, output: as in cross_entropy.
    order: a permutation of the D entries in raster order, [D].
    skip: number of first entries of the order that are given: the sum is then
      the log-likelihood of the others given these.

  Raises:
    ValueError: as in cross_entropy, order is no permutation, or skip is not 0
      to D.
  """
  autoregressive.check_levels(levels, output)
  orders.require(order, levels.size)
  place = orders.places(order).reshape(levels.shape)
  if not 0 <= skip <= levels.size:
    raise ValueError(f"skip: expected 0 to {levels.size}, got {skip}")

  def entry(i):
    tokens = masks.hide(levels, place < i, output.num_levels)
    params = autoregressive.checked_params(params_fn, tokens, output)
    nats = output.log_prob(params, levels)
    return jnp.where(place == i, nats, 0).sum()

  return jax.lax.map(entry, jnp.arange(skip, levels.size)).sum()


def autoencoding(
  predict_fn: Callable[[Array, Array], Array],
  data: Float[Array, "*D"],
  visible: Bool[Array, "..."],
) -> Float[Array, ""]:
  """The loss of masked autoencoders: mean squared error of masked entries.

    mean_(i masked) (f(data where visible, 0 elsewhere)_i - data_i)^2

  Args:
    predict_fn: (data with zeros at masked entries, visible) -> [*D].
    data: an example, [*D]; MAE normalises each patch.
    visible: which entries the network sees, [*D], whole patches in MAE.

  Returns:
    The mean, []; 0 if nothing is masked.

  Raises:
    ValueError: the shapes differ.
  """
  if visible.shape != data.shape:
    raise ValueError(
      f"visible: expected shape {data.shape}, got {visible.shape}"
    )
  found = predict_fn(jnp.where(visible, data, 0), visible)
  if found.shape != data.shape:
    raise ValueError(
      f"predict_fn: expected shape {data.shape}, got {found.shape}"
    )
  squares = jnp.where(visible, 0, (found - data) ** 2)
  return squares.sum() / jnp.maximum(1, (~visible).sum())


def expected_input(
  vectors: Float[Array, "*D C"],
  mask_vector: Float[Array, "C"],
  rate: Float[ArrayLike, ""],
) -> Float[Array, "*D C"]:
  """(1 - r) e_i + r m, the mean of vectors masked with probability r.

  Args:
    vectors: the vectors e_i of the entries, [*D, C].
    mask_vector: the vector m of the mask token, [C].
    rate: r, the probability with which training masked an entry.
  """
  masked = jnp.broadcast_to(mask_vector, vectors.shape)
  rate = jnp.asarray(rate, vectors.dtype)
  return (1 - rate) * vectors + rate * masked
