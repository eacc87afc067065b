"""Eight families in one script, to prove that an Experiment holds them all.

Each is a toy of its kind on points of the plane, under 40 lines, and nothing
outside knows which one it runs. Their quality is not the point.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.experiment import Experiment
from experiments.lib import averages, datasets, samples, training
from jaxgen.training import games, step
from tests.experiments.family_parts import Config, built, net  # noqa: F401


def vae(config, data):
  init_e, encoder = net(2)
  init_d, decoder = net(2)
  x = jnp.zeros(2)

  def init(key):
    first, second = jax.random.split(key)
    return {"encoder": init_e(first, x), "decoder": init_d(second, x)}

  def loss_fn(params, extras, key, batch, step):
    own = params["model"]
    beta = jnp.minimum(1.0, step / 10)  # a schedule is a function of the step

    def loss(x, noise):
      mean = encoder(own["encoder"], x)
      made = decoder(own["decoder"], mean + 0.1 * noise)
      return jnp.sum((made - x) ** 2) + beta * jnp.sum(mean**2) / 2

    noise = jax.random.normal(key, batch.shape)
    return jax.vmap(loss)(batch, noise).mean(), ({"beta": beta}, extras)

  encode = lambda p, extras, x, label: encoder(p["model"]["encoder"], x)
  decode = lambda p, extras, z, label: decoder(p["model"]["decoder"], z)

  def sample(p, extras, key, label):
    return None, decode(p, extras, jax.random.normal(key, (2,)), label)

  between = lambda a, b, w: (1 - w) * a + w * b
  coders = dict(encode=encode, decode=decode, between=between)
  return built(config, data, init, loss_fn, sample=sample, **coders)


def autoregressive(config, data):
  """Coordinates as integer tokens, the second given the first."""
  edges = jnp.linspace(-6.0, 6.0, 9)
  centres = (edges[1:] + edges[:-1]) / 2
  tokens = lambda x: jnp.clip(jnp.digitize(x, edges) - 1, 0, 7)

  def logits(params, first):
    return params["first"], params["second"][first]

  def loss_fn(params, extras, key, batch, step):
    def loss(x):
      first, second = tokens(x)
      rows = logits(params["model"], first)
      return -sum(
        jax.nn.log_softmax(row)[token]
        for row, token in zip(rows, (first, second), strict=True)
      )

    return jax.vmap(loss)(batch).mean(), ({}, extras)

  def sample(p, extras, key, label):
    keys = jax.random.split(key)
    first = jax.random.categorical(keys[0], p["model"]["first"])
    second = jax.random.categorical(keys[1], p["model"]["second"][first])
    return None, centres[jnp.stack([first, second])]

  init = lambda key: {"first": jnp.zeros(8), "second": jnp.zeros((8, 8))}
  return built(config, data, init, loss_fn, sample=sample, num_calls=2)


def flow(config, data):
  """An affine coupling after a normalisation that data initialise."""
  points = data.unlabelled(jax.random.key(0), 256)(0)
  init_net, conditioner = net(2)
  start = dict(mean=points.mean(0), log_std=np.log(points.std(0)))

  def init(key):
    return start | {"net": init_net(key, jnp.zeros(1))}

  def loss_fn(params, extras, key, batch, step):
    own = params["model"]

    def loss(x):
      y = (x - own["mean"]) * jnp.exp(-own["log_std"])
      shift, scale = conditioner(own["net"], y[:1])
      z = jnp.stack([y[0], (y[1] - shift) * jnp.exp(-scale)])
      return jnp.sum(z**2) / 2 + scale + jnp.sum(own["log_std"])

    return jax.vmap(loss)(batch).mean(), ({}, extras)

  def sample(p, extras, key, label):
    own, z = p["model"], jax.random.normal(key, (2,))
    shift, scale = conditioner(own["net"], z[:1])
    y = jnp.stack([z[0], z[1] * jnp.exp(scale) + shift])
    return None, y * jnp.exp(own["log_std"]) + own["mean"]

  return built(config, data, init, loss_fn, sample=sample)


def quantised(config, data):
  """A codebook that is an average, not a parameter, beside an encoder."""
  init_e, encoder = net(2)

  def loss_fn(params, extras, key, batch, step):
    codes, counts = extras["codes"], extras["counts"]
    z = jax.vmap(lambda x: encoder(params["model"], x))(batch)
    apart = jnp.sum((z[:, None] - codes[None]) ** 2, -1)
    near = jax.nn.one_hot(apart.argmin(1), len(codes))
    total = jax.lax.stop_gradient(near.T @ batch)
    counts = 0.9 * counts + 0.1 * near.sum(0)
    moved = 0.9 * codes * extras["counts"][:, None] + 0.1 * total
    codes = moved / jnp.maximum(counts, 1e-3)[:, None]
    return apart.min(1).mean(), ({}, dict(codes=codes, counts=counts))

  def sample(p, extras, key, label):
    row = jax.random.categorical(key, jnp.log(extras["counts"] + 1e-6))
    return None, extras["codes"][row]

  start = lambda key: dict(
    codes=jax.random.normal(key, (8, 2)), counts=jnp.ones(8)
  )
  init = lambda key: init_e(key, jnp.zeros(2))
  return built(config, data, init, loss_fn, sample=sample, extras=start)


def two_stages(config, data):
  """A Gaussian of the latents of another run."""
  codec = samples.read(config.first, script=__file__)
  trained = averages.load(codec)

  def loss_fn(params, extras, key, batch, step):
    mean, log_std = params["model"]["mean"], params["model"]["log_std"]

    def loss(x):
      z = codec.encode(*trained, x, None)
      return jnp.sum(((z - mean) * jnp.exp(-log_std)) ** 2 / 2 + log_std)

    return jax.vmap(loss)(batch).mean(), ({}, extras)

  def sample(p, extras, key, label):
    noise = jax.random.normal(key, (2,))
    z = p["model"]["mean"] + jnp.exp(p["model"]["log_std"]) * noise
    return None, codec.decode(*trained, z, label)

  init = lambda key: dict(mean=jnp.zeros(2), log_std=jnp.zeros(2))
  reads = {"codec": config.first}
  return built(config, data, init, loss_fn, sample=sample, reads=reads)


def flow_map(config, data):
  """One step that learns the end of a frozen teacher's trajectory."""
  teacher = samples.read(config.first)
  trained = averages.load(teacher)
  init_net, apply = net(2)

  def loss_fn(params, extras, key, batch, step):
    def loss(key):
      states, end = teacher.sample(*trained, key, None)
      made = apply(params["model"], states[0] / jnp.std(states[0]))
      return jnp.sum((made - end) ** 2)

    keys = jax.random.split(key, len(batch))
    return jax.vmap(loss)(keys).mean(), ({}, extras)

  def sample(p, extras, key, label):
    z = jax.random.normal(key, (2,))
    return None, apply(p["model"], z / jnp.std(z))

  init = lambda key: init_net(key, jnp.zeros(2))
  learns = {"teacher": config.first}
  return built(config, data, init, loss_fn, sample=sample, learns_from=learns)


def latents(config, data):
  """A latent for each of 64 examples, which batches name by their rows."""
  points = data.unlabelled(jax.random.key(0), 64)(0)
  init_g, generator = net(2)

  def init(key):
    first, second = jax.random.split(key)
    table = jax.random.normal(second, (64, 2))
    return {"generator": init_g(first, jnp.zeros(2)), "latents": table}

  def batches(key):
    rows = lambda n: jax.random.fold_in(key, n)
    some = jax.jit(lambda k: jax.random.permutation(k, 64)[:32])
    return lambda n: {"model": np.asarray(some(rows(n)))}

  def loss_fn(params, extras, key, rows, step):
    own = params["model"]
    made = jax.vmap(lambda z: generator(own["generator"], z))(
      own["latents"][rows]
    )
    return jnp.mean((made - jnp.asarray(points)[rows]) ** 2), ({}, extras)

  sample = lambda p, extras, key, label: (
    None,
    generator(p["model"]["generator"], jax.random.normal(key, (2,))),
  )
  return built(config, data, init, loss_fn, sample=sample, batches=batches)


def encoding_gan(config, data):
  """The discriminator's features are an encoder, their mean the score."""
  init_g, generator = net(2)
  init_d, encoder = net(2)

  def players(key):
    first, second = jax.random.split(key)
    x = jnp.zeros(2)
    return {"generator": init_g(first, x), "encoder": init_d(second, x)}

  def loss_of(sign, params, extras, key, batch, step):
    def loss(x, z):
      seen = encoder(params["encoder"], generator(params["generator"], z))
      gap = seen.mean() - encoder(params["encoder"], x).mean()
      return jax.nn.softplus(sign * gap) - 0.1 * jnp.vdot(seen, z)

    z = jax.random.normal(key, batch[0].shape)
    return jax.vmap(loss)(*batch, z).mean(), ({}, extras)

  def turn(name, sign):
    loss_fn, rules = functools.partial(loss_of, sign), averages.rules(config)
    return step.Turn(name, loss_fn, optax.adam(1e-3), averages=rules)

  turns = turn("encoder", 1.0), turn("generator", -1.0)
  sets = lambda key: (turns, config.batch_size, (data.unlabelled, key))
  made = lambda p, extras, z, label: generator(p["generator"], z)
  noise = lambda key: jax.random.normal(key, (2,))
  return Experiment(
    *(config, data, players, turns, lambda key: games.zipped(*sets(key))),
    sampled=("generator", "encoder"),
    sample=lambda p, e, key, label: (None, made(p, e, noise(key), label)),
    encode=lambda p, extras, x, label: encoder(p["encoder"], x),
    decode=made,
  )


FAMILIES = (
  vae,
  autoregressive,
  flow,
  quantised,
  two_stages,
  flow_map,
  latents,
  encoding_gan,
)


def experiment(config):
  known = {fn.__name__: fn for fn in FAMILIES}
  return known[config.family](config, datasets.load(config))


def run(config):
  return training.run(__file__, experiment(config))
