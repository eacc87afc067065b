"""Balanced losses against full gradients of a small network."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.losses import balancing
from tests import expect

X = jnp.sin(jnp.arange(12.0)).reshape(4, 3)
PARAMS = dict(
  body=jnp.cos(jnp.arange(6.0)).reshape(3, 2),
  last=dict(
    kernel=jnp.sin(1 + jnp.arange(4.0)).reshape(2, 2), bias=jnp.ones(2)
  ),
)
FIRST = lambda y: jnp.mean(jnp.abs(y - 0.3))
SECOND = lambda y: jnp.mean(jnp.tanh(2 * y[:, 0]) * y[:, 1])


def output(params, last):
  h = jnp.tanh(X @ params["body"])
  return h @ last["kernel"] + last["bias"][None]


def whole(fn):
  """The loss as a function of all parameters."""
  return lambda params: fn(output(params, params["last"]))


def balanced(params, scale=1.0, delta=1e-6, second=SECOND):
  return balancing.balanced(
    FIRST,
    second,
    lambda last: output(params, last),
    params["last"],
    scale,
    delta,
  )


def norm(tree):
  flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
  return np.linalg.norm(np.float64(flat))


def test_value_and_gradient_are_those_of_the_weighted_sum():
  scale, delta = 0.7, 0.01
  one, other = (
    jax.jit(jax.value_and_grad(whole(fn)))(PARAMS) for fn in (FIRST, SECOND)
  )
  weight = norm(one[1]["last"]) / (norm(other[1]["last"]) + delta)
  value, grads = jax.jit(
    jax.value_and_grad(lambda p: balanced(p, scale, delta).loss)
  )(PARAMS)
  np.testing.assert_allclose(
    value, one[0] + scale * weight * other[0], rtol=1e-5
  )
  truth = jax.tree.map(lambda a, b: a + scale * weight * b, one[1], other[1])
  assert norm(truth["body"]) > 0.01
  expect.close(grads, truth, 1e-4, 1e-6)
  found = jax.jit(balanced)(PARAMS, scale, delta)
  np.testing.assert_allclose(found.weight, weight, rtol=1e-5)
  np.testing.assert_allclose(found.first, one[0], rtol=1e-6)
  np.testing.assert_allclose(found.second, other[0], rtol=1e-6)
  np.testing.assert_allclose(found.loss, value, rtol=1e-6)


def test_parts_have_no_derivative():
  parts = lambda p: sum(balanced(p)[1:])
  for leaf in jax.tree.leaves(jax.jit(jax.grad(parts))(PARAMS)):
    np.testing.assert_array_equal(leaf, 0)
  squares = lambda a: balancing.adaptive_weight({"a": a}, {"a": a**2})
  np.testing.assert_array_equal(jax.grad(squares)(jnp.ones(3)), 0)


def test_a_loss_without_a_gradient_changes_nothing():
  """Its weight is finite; a scale of 0 leaves the first loss alone."""
  flat = lambda y: 3.0 + 0 * jnp.sum(y)
  truth = jax.jit(jax.grad(whole(FIRST)))(PARAMS)
  for how in (dict(second=flat, delta=1e-3), dict(scale=0.0)):
    fn = lambda p, how=how: balanced(p, **how).loss
    expect.close(jax.jit(jax.grad(fn))(PARAMS), truth, 1e-5, 1e-7)
  found = jax.jit(lambda p: balanced(p, second=flat, delta=1e-3))(PARAMS)
  np.testing.assert_allclose(
    found.weight, norm(truth["last"]) / 1e-3, rtol=1e-5
  )


def test_the_weight_of_trees():
  first = dict(a=jnp.array([3.0, 0.0]), b=jnp.array(4.0))
  second = dict(a=jnp.array([0.0, 1.0]), b=jnp.array(0.0))
  weight = balancing.adaptive_weight
  assert (
    weight(first, second, 1.0) == 2.5 and weight(first, second, 1.0).shape == ()
  )
  np.testing.assert_allclose(weight(first, second), 5, rtol=1e-5)
  nothing = jax.tree.map(jnp.zeros_like, second)
  assert weight(nothing, nothing) == 0
  np.testing.assert_allclose(weight(first, nothing), 5e6, rtol=1e-5)


def test_losses_that_are_no_scalars():
  said = r"second_fn: expected a loss \[\], got shape \[2\]"
  expect.error(said, balanced, PARAMS, second=lambda y: y[0])
  said = r"first_fn: expected a loss \[\], got shape \[1\]"
  call = balancing.balanced
  expect.error(said, call, jnp.atleast_1d, SECOND, lambda y: y, jnp.ones(()))
