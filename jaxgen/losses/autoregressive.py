"""Maximum likelihood of autoregressive models of levels.

  log p(x) = sum_i log P(x_i; params_i),   params_i from entries before i

in an order of the model's own (orders.arrange gives any model of sequences any
order). The distribution P of one entry is an outputs.Output. The sum is exact,
in one evaluation of the network. Everything here takes one example.

Reference: Larochelle and Murray 2011 (NADE); Germain et al. 2015,
arXiv:1502.03509 (MADE); van den Oord et al. 2016, arXiv:1601.06759 (PixelCNN).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jaxgen import outputs


def log_prob(
  params_fn: Callable[[Array], Array],
  levels: Num[Array, "*D"],
  *,
  output: outputs.Output,
) -> Float[Array, ""]:
  """log p(x) of an example, in nats.

  Args:
    params_fn: levels [*D] -> parameters [*D, K], causal in some order, with the
      network's own parameters bound.
    levels: integers from 0 to L - 1, [*D].
    output: the distribution of one entry.

  Returns:
    log p(x), []; NaN for traced levels that are out of range.

  Raises:
    ValueError: levels are no integers, concrete levels are out of range, or
      params_fn returns another shape.
  """
  check_levels(levels, output)
  return output.log_prob(
    checked_params(params_fn, levels, output), levels
  ).sum()


def negative_log_likelihood(
  params_fn: Callable[[Array], Array],
  levels: Num[Array, "*D"],
  *,
  output: outputs.Output,
) -> Float[Array, ""]:
  """-log p(x) / D, in nats per dimension; arguments as in log_prob.

  The division by the number of entries D makes learning rates comparable
  between sizes.
  """
  return -log_prob(params_fn, levels, output=output) / levels.size


def ensemble_log_prob(
  params_fn: Callable[[Array, Any], Array],
  levels: Num[Array, "*D"],
  members: Any,
  *,
  output: outputs.Output,
) -> Float[Array, ""]:
  """log p(x) of an equal mixture of M models, in nats.

    log (1/M) sum_m p_m(x)

  Members are what distinguishes the models: orders [M, D] of one MADE, labels
  [M], whose mixture is the model without labels if all are equally likely, or
  parameters of M networks. By convexity, the ensemble has at least the mean
  log p(x) of its members.

  Args:
    params_fn: (levels [*D], one member) -> parameters [*D, K].
    levels, output: as in log_prob.
    members: the members, a pytree whose leaves have M as their first axis.

  Raises:
    ValueError: as in log_prob.

  Reference: Uria et al. 2014, arXiv:1310.1757 (ensembles of orders).
  """
  check_levels(levels, output)

  def member(member):
    one = lambda levels: params_fn(levels, member)
    return log_prob(one, levels, output=output)

  values = jax.vmap(member)(members)
  return jax.nn.logsumexp(values) - math.log(len(values))


def checked_params(
  params_fn: Callable[[Array], Array],
  x: Num[Array, "*D"],
  output: outputs.Output,
) -> Float[Array, "..."]:
  """The parameters of all entries, params_fn(x), [*D, K].

  Raises:
    ValueError: params_fn returns another shape.
  """
  params, shape = params_fn(x), (*x.shape, output.num_params)
  if jnp.shape(params) != shape:
    raise ValueError(
      f"params_fn: expected shape {shape} for {output.name}, got"
      f" {jnp.shape(params)}"
    )
  return params


def check_levels(levels: Num[Array, "*D"], output: outputs.Output) -> None:
  """Raises for levels that are no integers, or concrete and out of range.

  Raises:
    ValueError: as said.
  """
  if not jnp.issubdtype(levels.dtype, jnp.integer):
    raise ValueError(f"levels: expected integers, got {levels.dtype}")
  if isinstance(levels, jax.core.Tracer):
    return
  found = np.asarray(levels)
  wrong = found[(found < 0) | (found >= output.num_levels)]
  if wrong.size:
    raise ValueError(
      f"levels: expected 0 to {output.num_levels - 1} for {output.name}, got"
      f" {wrong[0]}"
    )
