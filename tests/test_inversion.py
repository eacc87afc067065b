"""Inversions of autoregressive maps: all of them give the same x."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import elementwise, inversion
from tests import conditioners, expect

FAMILIES = (elementwise.affine(), elementwise.spline(4, 3.0))


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def inverters(family, weights):
  """{name: y -> x}, of which `cached` remembers the positions it has read."""
  conditioner = conditioners.causal(family, weights)

  def step(memory, before, i):
    memory = jnp.where(jnp.arange(len(memory)) == i - 1, before, memory)
    return memory, conditioner(memory)[i]

  zeros = jnp.zeros(len(weights))
  how = dict(step=step, memory=zeros)
  jacobi = lambda **kw: lambda y: inversion.jacobi(conditioner, family, y, **kw)
  return conditioner, {
    "sequential": lambda y: inversion.sequential(conditioner, family, y),
    "cached": lambda y: inversion.cached(conditioner, family, y, **how),
    "jacobi": lambda y: jacobi(tolerance=1e-6)(y).x,
    "blocks": lambda y: jacobi(tolerance=1e-6, num_blocks=4)(y).x,
    "all blocks": lambda y: jacobi(tolerance=0.0, num_blocks=8)(y).x,
  }


@pytest.mark.parametrize("family", FAMILIES, ids=["affine", "spline"])
def test_all_inversions_agree(family):
  conditioner, found = inverters(family, normal(0, 8, 8, family.num_params))
  x = normal(1, 4, 8)
  y = jax.vmap(lambda x: family.forward(conditioner(x), x)[0])(x)
  for name, invert in found.items():
    back = jax.jit(jax.vmap(invert))(y)
    np.testing.assert_allclose(back, x, atol=1e-4, err_msg=name)


def test_jacobi_ends_where_the_next_change_is_below_the_tolerance():
  """y_i = x_i + x_(i-1) / 2 from y = 1: sweep k changes numbers by 2^-k."""

  def conditioner(x):
    before = jnp.concatenate([jnp.zeros(1, x.dtype), x[:-1]])
    return jnp.stack([before / 2, jnp.zeros_like(x)], -1)

  family, y = elementwise.affine(), jnp.ones(32)
  np.testing.assert_allclose(family.forward(conditioner(y), y)[0][1:], 1.5)
  for tolerance, sweeps in ((1e-3, 9), (2.0**-5, 4)):
    swept = inversion.jacobi(conditioner, family, y, tolerance=tolerance)
    assert int(swept.num_sweeps) == sweeps
    np.testing.assert_allclose(swept.change, 2.0**-sweeps, rtol=1e-3)
  swept = inversion.jacobi(conditioner, family, y)  # 8 units of rounding
  assert int(swept.num_sweeps) in (19, 20, 21)


def test_jacobi_counts_its_sweeps():
  family = elementwise.affine()
  independent = lambda x: jnp.ones((len(x), 2))
  swept = inversion.jacobi(independent, family, 2 * jnp.ones(8), tolerance=0.0)
  assert swept.num_sweeps == 2 and swept.change == 0  # one more to see it
  conditioner = conditioners.causal(family, normal(0, 8, 8, 2))
  swept = inversion.jacobi(conditioner, family, normal(1, 8), tolerance=0.0)
  assert 2 < swept.num_sweeps <= 8
  expect.error(
    "num_blocks: expected a divisor of 8, got 3",
    functools.partial(
      inversion.jacobi, independent, family, jnp.ones(8), num_blocks=3
    ),
  )
