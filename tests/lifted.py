"""Every loss as a function of a network (x_t, t) -> [2] and one example."""

import jax
import jax.numpy as jnp
import numpy as np

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
  balancing,
  bridges,
  classification,
  clouds,
  decoders,
  denoising,
  discrete,
  distribution_matching,
  flow_maps,
  flow_matching,
  importance,
  jko,
  latent_nearest,
  masked,
  normalizing_flow,
  o_gan,
  perceptual,
  score_matching,
  transport_maps,
  variational,
  wasserstein,
)

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


def encoders(net, data, noise, t):
  """The network and a constant as the encoder of a generator that stays."""
  encode = lambda x: jnp.append(net(x, t), 0.3)
  return o_gan.loss(encode, lambda z: z[:2], data, jnp.append(noise, 1.0))


def penalties(net, data, noise, t):
  _, bowl = scores(net, t)
  x = wasserstein.between(data, noise, t)
  return (
    wasserstein.gradient_penalty(bowl, x)
    + wasserstein.lipschitz_penalty(bowl, x)
    + wasserstein.divergence_penalty(bowl, x, 2.5)
    + adversarial.zero_centred(bowl, x)
    + o_gan.quadratic_penalty(bowl, data, noise)
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


def tokens(net, data, noise, t):
  """The network gives logits of two masked bits, and log ratios of noised."""
  levels, hidden = jnp.array([1, 0]), jnp.array([False, False])
  logits = lambda x: net(x * 1.0, t)
  nats = masked.cross_entropy(
    lambda x: logits(x)[:, None], levels, hidden, output=outputs.bernoulli()
  )
  entropy = discrete.score_entropy(
    lambda x: jnp.stack([logits(x), -logits(x)], -1),
    levels,
    1 - levels,
    0.5,
    jnp.full(2, 0.5),
  )
  return nats + entropy + classification.focal(logits(levels), 1.0).sum()


def decoded(net, data, noise, t):
  """The network as a decoder, its features those of a fixed layer."""
  error = lambda y: jnp.sum((y - data) ** 2)
  features = lambda x: [jnp.tanh(x), jnp.outer(x, x)]
  seen = lambda y: perceptual.distance(features(y), features(data))
  last = jnp.zeros(2)
  move = lambda shift: net(noise, t) + shift
  return balancing.balanced(error, seen, move, last, 0.1).loss


def neighbours(net, data, noise, t):
  """The network as the generator of GLO and of IMLE."""
  generate, both = lambda z: net(z, t), jnp.stack([data, data + 1])
  pool = jnp.stack([noise, 2 * noise, noise - 1])
  return latent_nearest.reconstruction(
    generate, noise, data
  ) + latent_nearest.imle(generate, both, pool)


def proximal(net, data, noise, t):
  """The network's rotation in a strictly convex potential."""
  psi = lambda x: jnp.sum(net(x, t) ** 2) + jnp.sum(x**2)
  energy = lambda x: jnp.sum((x - data) ** 2)
  return jko.step(psi, noise, energy_fn=energy, tau=0.5)


def maps(net, data, noise, t):
  """The network as a flow map, and as a one-step generator."""
  map_fn = lambda x, t, s: net(x, t) - s * x
  early = t / 2 + 0.5
  velocity = noise - data
  one = flow_maps.eulerian(map_fn, noise, early, 0.25, velocity)
  two = flow_maps.lagrangian(map_fn, noise, early, 0.25, net)
  made = distribution_matching.problem(net(noise, t), data, noise)
  root = flow_maps.adaptive(0.5, 0.1)
  few = flow_maps.regression(two, root) + flow_maps.regression(made, root)
  return flow_maps.regression(one) + 0.01 * few


def drifts(net, data, noise, t):
  """The network as both drifts of a bridge, and as what restores data."""
  args = noise - data, t
  how = dict(std=0.5, weight=lambda left: left)
  ends, gamma = bridges.pinned(paths.edm(0.01, 2.0))
  restored = bridges.restoration(
    lambda x, t, source: net(x - source, t),
    *(data, 2 * noise, *args),
    path=ends,
    bridge=gamma,
    weight=levels.uniform_weight,
  )
  to_source = bridges.to_source(net)
  return (
    restored
    + bridges.matching(net, data, 2 * noise, *args, **how)
    + bridges.matching(to_source, 2 * noise, data, *args, **how)
  )


LIFTED |= dict(
  decoded=decoded,
  drifts=drifts,
  maps=maps,
  neighbours=neighbours,
  proximal=proximal,
  sequence=sequence,
  tokens=tokens,
  bounds=bounds,
  invertible=invertible,
  discriminators=discriminators,
  generators=generators,
  encoders=encoders,
  penalties=penalties,
  duals=duals,
  movers=movers,
  clouds=between_clouds,
)
