"""log p(x | z) of an example, from the output of a decoder, in nats.

  discrete   levels in [-1, 1], by any Output of jaxgen.outputs
  gaussian   real numbers, with a fixed or a learned standard deviation

Each is a sum over coordinates. The decoder's standard deviation sets the
balance of reconstruction and KL; `optimal_log_std` gives its best value.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float
from jaxtyping import ArrayLike as Numeric

from jaxgen import costs, outputs
from jaxgen.losses import variational


def discrete(
  output: outputs.Output,
  params: Float[Array, "..."],
  data: Float[Array, "..."],
) -> Float[Array, ""]:
  """log P of the levels of an example, summed over coordinates, [].

  Args:
    output: the family of distributions, such as outputs.bernoulli().
    params: what the decoder returns, [*D, K].
    data: values of levels in [-1, 1], [*D].

  Returns:
    The sum; NaN if traced data have a value that is no level.

  Raises:
    ValueError: params is not [*D, K], or concrete data have a value that is no
      level.
  """
  expected = *data.shape, output.num_params
  if params.shape != expected:
    raise ValueError(
      f"params: expected shape {list(expected)} for {output.name} of data"
      f" {list(data.shape)}, got {list(params.shape)}"
    )
  levels = outputs.to_levels(data, output.num_levels)
  off = jnp.abs(outputs.to_values(levels, output.num_levels) - data)
  log_p = output.log_prob(params, levels)
  # The tolerance of to_levels, in units of a level's distance.
  is_level = off * (output.num_levels - 1) / 2 < 1e-3
  return jnp.sum(jnp.where(is_level, log_p, jnp.nan))


def gaussian(
  data: Float[Array, "..."], mean: Float[Array, "..."], log_std: Numeric
) -> Float[Array, ""]:
  """log N(data; mean, std^2), summed over coordinates, [].

  Args:
    data: an example, [*D].
    mean: what the decoder returns, [*D].
    log_std: fixed or learned, one for all coordinates, [], or one for each,
      [*D].

  Raises:
    ValueError: mean is not [*D], or log_std is neither [] nor [*D].
  """
  costs.require_alike(data=data, mean=mean)
  log_std = jnp.asarray(log_std, data.dtype)
  if log_std.shape not in ((), data.shape):
    raise ValueError(
      f"log_std: expected shape [] or {list(data.shape)}, got"
      f" {list(log_std.shape)}"
    )
  log_std = jnp.broadcast_to(log_std, data.shape)
  return variational.log_prob(variational.Gaussian(mean, log_std), data)


def optimal_log_std(
  data: Float[Array, "..."], mean: Float[Array, "..."]
) -> Float[Array, ""]:
  """The log_std at which `gaussian` of these data is highest, [].

    log std* = log(mean squared error) / 2

  Over a batch, data and mean are [B, *D], and each example's `gaussian` takes
  the one value (sigma-VAE): the training loss is then the logarithm of the mean
  squared error. It depends on the data: to evaluate a bound, keep the value
  found in training. It is -infinity where mean = data.

  Args:
    data: an example or a batch.
    mean: what the decoder returns, of the same shape.

  Raises:
    ValueError: the shapes differ.

  Reference: Rybkin et al. 2021, arXiv:2006.13202, eq. 5.
  """
  costs.require_alike(data=data, mean=mean)
  return jnp.log(jnp.mean((data - mean) ** 2)) / 2
