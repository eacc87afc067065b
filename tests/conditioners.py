"""A conditioner of autoregressive maps, for tests."""

import jax.numpy as jnp


def causal(family, weights):
  """x [T] -> parameters [T, K]; position i reads x_<i alone."""

  def conditioner(x):
    below = jnp.tril(jnp.ones((len(x), len(x))), -1)
    return jnp.sin(jnp.einsum("ij,j,ijk->ik", below, x, weights))

  return conditioner
