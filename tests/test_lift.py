"""One loss trains a Linen, an NNX, an Equinox and a bare network; every other
loss, lifted alone, a bare and an Equinox one.
"""

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxgen import levels, paths
from tests import lifted

DIM, BATCH, STEPS = 2, 64, 20


class Linen(nn.Module):
  @nn.compact
  def __call__(self, x_t, t):
    return nn.Dense(DIM)(jnp.append(x_t, t))


class Nnx(nnx.Module):
  def __init__(self, rngs):
    self.dense = nnx.Linear(DIM + 1, DIM, rngs=rngs)

  def __call__(self, x_t, t):
    return self.dense(jnp.append(x_t, t))


class Equinox(equinox.Module):
  dense: equinox.nn.Linear

  def __call__(self, x_t, t):
    return self.dense(jnp.append(x_t, t))


def start():
  """The kernel [DIM + 1, DIM] and bias [DIM] that all four begin with."""
  rng = np.random.default_rng(0)
  kernel = 0.5 * rng.standard_normal((DIM + 1, DIM))
  return jnp.asarray(kernel, jnp.float32), jnp.zeros(DIM)


def linen():
  net = Linen()
  kernel, bias = start()
  params = net.init(jax.random.key(0), jnp.zeros(DIM), jnp.zeros(()))
  dense = dict(kernel=kernel, bias=bias)
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(params["params"]["Dense_0"]) == shapes(dense)
  return dict(params=dict(Dense_0=dense)), net.apply


def nnx_module():
  net = Nnx(nnx.Rngs(0))
  kernel, bias = start()
  net.dense.kernel[...], net.dense.bias[...] = kernel, bias
  graph, params = nnx.split(net, nnx.Param)
  return params, lambda params, x_t, t: nnx.merge(graph, params)(x_t, t)


def equinox_module():
  kernel, bias = start()
  net = Equinox(equinox.nn.Linear(DIM + 1, DIM, key=jax.random.key(0)))
  where = lambda net: (net.dense.weight, net.dense.bias)
  net = equinox.tree_at(where, net, (kernel.T, bias))
  params, static = equinox.partition(net, equinox.is_inexact_array)
  apply = lambda params, x_t, t: equinox.combine(params, static)(x_t, t)
  return params, apply


def bare():
  kernel, bias = start()
  apply = lambda p, x_t, t: jnp.append(x_t, t) @ p["kernel"] + p["bias"]
  return dict(kernel=kernel, bias=bias), apply


NETWORKS = dict(linen=linen, nnx=nnx_module, equinox=equinox_module, bare=bare)


def by_hand():
  """The first loss, in NumPy's float64, from the same draws."""
  batch, t_key, noise_key = draws(jnp.int32(0))
  t = levels.logit_normal(t_key, paths.linear(), (BATCH,))
  noise = jax.random.normal(noise_key, batch.shape)
  data, noise, t = (np.asarray(x, np.float64) for x in (batch, noise, t))
  kernel, bias = (np.asarray(x, np.float64) for x in start())
  x_t = (1 - t[:, None]) * data + t[:, None] * noise
  value = np.concatenate([x_t, t[:, None]], 1) @ kernel + bias
  return np.mean((value - (noise - data)) ** 2)


def draws(step):
  """The batch of a step and two keys."""
  key = jax.random.fold_in(jax.random.key(1), step)
  data_key, t_key, noise_key = jax.random.split(key, 3)
  batch = 3.0 + 0.5 * jax.random.normal(data_key, (BATCH, DIM))
  return batch, t_key, noise_key


def train(params, apply, loss=lifted.denoising_loss):
  """The losses of 20 steps: the shape of every experiment's loss_fn."""
  optimizer = optax.adam(0.2)

  def loss_fn(params, step):
    batch, t_key, noise_key = draws(step)
    t = levels.logit_normal(t_key, paths.linear(), (len(batch),))
    noise = jax.random.normal(noise_key, batch.shape)
    net = lambda x_t, t: apply(params, x_t, t)
    one = lambda *example: loss(net, *example)
    return jax.vmap(one)(batch, noise, t).mean()

  @jax.jit
  def train_step(params, opt_state, step):
    value, grad = jax.value_and_grad(loss_fn)(params, step)
    updates, opt_state = optimizer.update(grad, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value

  opt_state, losses = optimizer.init(params), []
  for step in range(STEPS):
    params, opt_state, value = train_step(params, opt_state, jnp.int32(step))
    losses.append(float(value))
  return np.array(losses)


@pytest.fixture(scope="module")
def reference():
  return train(*bare())


@pytest.mark.parametrize("name", NETWORKS)
def test_trains_and_agrees_with_the_others(name, reference):
  losses = train(*NETWORKS[name]())
  assert losses[-1] < 0.3 * losses[0]
  np.testing.assert_allclose(losses[0], by_hand(), rtol=1e-5)
  np.testing.assert_allclose(losses, reference, rtol=1e-4)
  np.testing.assert_allclose(losses[0], reference[0], rtol=1e-5)


@pytest.mark.parametrize("name", lifted.LIFTED)
def test_every_loss_trains_a_bare_and_an_equinox_network(name):
  one, two = (
    train(*make(), lifted.LIFTED[name]) for make in (bare, equinox_module)
  )
  np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-5)
  assert one[-5:].mean() < one[:2].mean() - 0.5
