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

from jaxgen import (
  bijectors,
  costs,
  elementwise,
  levels,
  outputs,
  paths,
  predictions,
)
from jaxgen.losses import (
  adversarial,
  autoregressive,
  clouds,
  decoders,
  denoising,
  flow_matching,
  importance,
  normalizing_flow,
  score_matching,
  transport_maps,
  variational,
  wasserstein,
)

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


ON_PATH = dict(path=paths.linear(), weight=levels.uniform_weight)


def denoising_loss(net, data, noise, t):
  options = ON_PATH | dict(prediction=predictions.velocity)
  return denoising.denoising(net, data, noise, t, **options)


def flow_loss(net, data, noise, t):
  args = data, 2 * noise - 1, noise, t
  bridge = flow_matching.brownian(0.5)
  return flow_matching.flow_matching(net, *args, bridge=bridge, **ON_PATH)


def interpolant_loss(net, data, noise, t):
  pair = lambda x_t, t: (net(x_t, t), net(x_t, t + 1))
  args = data, 2 * noise - 1, noise, t
  options = ON_PATH | dict(bridge=flow_matching.constant(0.5))
  return flow_matching.stochastic_interpolant(pair, *args, **options)


LIFTED = dict(
  flow_matching=flow_loss,
  stochastic_interpolant=interpolant_loss,
  explicit=lambda net, data, noise, t: score_matching.explicit(
    lambda x: net(x, t), data, 4 * (3 - data)
  ),
  implicit=lambda net, data, noise, t: score_matching.implicit(
    lambda x: net(x, t), data
  ),
  sliced=lambda net, data, noise, t: score_matching.sliced(
    lambda x: net(x, t), data, noise
  ),
  sliced_vr=lambda net, data, noise, t: score_matching.sliced_vr(
    lambda x: net(x, t), data, noise
  ),
)


def scores(net, t):
  """A critic, linear in x; and a potential with slopes."""
  bowl = lambda x: jnp.sum(net(x, t) ** 2) / 2
  return lambda x: net(x, t)[0], bowl


def games():
  """Every objective, its own or on an f-divergence."""
  make = lambda names: [getattr(adversarial, name)() for name in names.split()]
  own = "original non_saturating least_squares hinge relativistic wasserstein"
  others = "kullback_leibler reverse_kullback_leibler pearson squared_hellinger"
  others += " jensen_shannon total_variation"
  return make(own) + [adversarial.f_gan(d) for d in make(others)]


def discriminators(net, data, noise, t):
  critic, _ = scores(net, t)
  r, f = critic(data), critic(noise)
  return sum(game.discriminator(r, f) for game in games())


def generators(net, data, noise, t):
  critic = lambda x: x[0] - 1
  r, f = critic(data), critic(net(noise, t))
  return sum(game.generator(r, f) for game in games())


def penalties(net, data, noise, t):
  _, bowl = scores(net, t)
  x = wasserstein.between(data, noise, t)
  return (
    wasserstein.gradient_penalty(bowl, x)
    + wasserstein.lipschitz_penalty(bowl, x)
    + wasserstein.divergence_penalty(bowl, x, 2.5)
    + adversarial.zero_centred(bowl, x)
  )


def duals(net, data, noise, t):
  critic, bowl = scores(net, t)
  options = dict(cost=costs.square, epsilon=20.0)
  clouds = jnp.stack([data, noise]), jnp.stack([2 * noise, noise - 1])
  return (
    wasserstein.dual(critic, data, noise)
    + wasserstein.quadratic(critic, data, noise)
    + wasserstein.entropic(critic, bowl, data, noise, **options)
    + wasserstein.regularised(bowl, critic, data, noise, **options)
    + wasserstein.semi_dual(critic, *clouds, cost=costs.distance)
  )


def movers(net, data, noise, t):
  to, draw = lambda x: net(x, t), lambda x, z: net(x, t) + z * net(x, z)
  (_, bowl), both = scores(net, t), jnp.stack([t, 1 - t])
  potential = lambda y: -jnp.sum((y - data) ** 2)
  return (
    transport_maps.mover(potential, to, noise, cost=costs.square)
    + transport_maps.weak_mover(
      potential, draw, noise, both, cost=costs.square, diversity=0.1
    )
    + transport_maps.cycle(to, to, noise)
    + transport_maps.non_minimax(bowl, bowl, data, noise, cycle_weight=0.1)
    + transport_maps.barycentric(to, noise, data, t)
  )


def between_clouds(net, data, noise, t):
  x = jnp.stack([net(noise, t), net(2 * noise, t)])
  y = jnp.stack([data, data + 1, data - 1])
  return (
    clouds.sinkhorn_divergence(x, y, epsilon=5.0).value
    + clouds.sliced_wasserstein(jax.random.key(0), x, y, 3)
    + clouds.energy_distance(x, y)
  )


def bounds(net, data, noise, t):
  """One network as encoder and decoder."""
  q = variational.gaussian(net(data, t), net(data, t + 1))
  likelihood_fn = lambda z: decoders.gaussian(data, net(z, t), 0.0)
  terms = variational.elbo(likelihood_fn, q, noise)
  weighted = importance.doubly_reparameterised(
    likelihood_fn, q, jnp.stack([noise, -noise])
  )
  return variational.loss(terms, 0.5) - weighted


def invertible(net, data, noise, t):
  """The network as the conditioner of a coupling."""
  mask, family = np.array([True, False]), elementwise.affine()
  block = bijectors.coupling(mask, lambda x: net(jnp.append(x, t), t), family)
  return normalizing_flow.negative_log_likelihood(block.forward, data)


def sequence(net, data, noise, t):
  """The network gives the logit of each of two bits from the bit before."""

  def params_fn(levels):
    before = jnp.stack([jnp.zeros(()), levels[0] * 1.0])
    return jnp.stack([net(jnp.stack([x, t]), t)[:1] for x in before])

  levels, output = jnp.array([1, 0]), outputs.bernoulli()
  return -autoregressive.log_prob(params_fn, levels, output=output)


LIFTED |= dict(
  sequence=sequence,
  bounds=bounds,
  invertible=invertible,
  discriminators=discriminators,
  generators=generators,
  penalties=penalties,
  duals=duals,
  movers=movers,
  clouds=between_clouds,
)


def train(params, apply, loss=denoising_loss):
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


@pytest.mark.parametrize("name", LIFTED)
def test_every_loss_trains_a_bare_and_an_equinox_network(name):
  one, two = (train(*make(), LIFTED[name]) for make in (bare, equinox_module))
  np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-5)
  assert one[-5:].mean() < one[:2].mean() - 0.5
