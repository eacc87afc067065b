"""experiments.vqgan: the two losses, the start of the game, the features."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import vqgan
from experiments.recipes import codecs, image_features
from jaxgen.losses import perceptual
from jaxgen.models import patch_discriminator
from tests import expect
from tests.models import twins

KEY = jax.random.key(3)


def started(**changes):
  """(experiment, codec, random parameters, extras, batch)."""
  small = dict(width=4, latent=3, num_codes=5, batch_size=4, patch_width=4)
  small |= dict(codebook="gradient", patch_levels=1, start_step=2)
  config = vqgan.Config("", **small | changes)
  ex = vqgan.experiment(config)
  codec = codecs.make(config, ex.data)
  params = twins.randomise(jax.eval_shape(ex.players, jax.random.key(0)))
  batch = ex.batches(jax.random.key(1))(0)
  return ex, codec, params, jax.tree.map(jnp.asarray, batch)


def patches(params, x):
  net = patch_discriminator.PatchDiscriminator(4, 1)
  return jax.vmap(lambda x: net.apply(params["discriminator"], x))(x)


def decoded(codec, own, x):
  """By tokens, with the straight-through estimator written out."""
  z = codec.features(own, x)
  found = codec.quantise(own["codebook"], jax.lax.stop_gradient(z))
  through = z + jax.lax.stop_gradient(found.value - z)
  squares = jnp.sum((found.codes[0] - jax.lax.stop_gradient(z)) ** 2, -1)
  committed = jnp.sum((jax.lax.stop_gradient(found.codes[0]) - z) ** 2, -1)
  loss = squares.mean() / 3 + 0.25 * committed.mean() / 3
  return codec.decode(own, through), loss


def parts(codec, params, x):
  """(R, G, the bottleneck's loss, images) of a batch, in plain terms."""
  made, loss = jax.vmap(lambda x: decoded(codec, params["model"], x))(x)
  seen = [patches(params, images) for images in (made, x)]
  unlike = jax.vmap(perceptual.distance)(seen[0].features, seen[1].features)
  error = jnp.abs(made - x).mean() + 1.5 * unlike.mean()
  return error, -seen[0].logits.mean(), loss.mean(), made


def test_the_autoencoders_loss_and_gradient():
  """Two full backward passes give the weight, from the start step on."""
  ex, codec, params, batch = started(feature_weight=1.5, game_weight=0.7)
  x = batch["model"][0]

  @jax.jit
  def truth(model):
    part = lambda n: lambda m: parts(codec, params | {"model": m}, x)[n]
    return [jax.value_and_grad(part(n))(model) for n in range(3)]

  @jax.jit
  def run(model, step):
    fn = lambda model: ex.turns[0].loss_fn(
      params | {"model": model}, {}, KEY, batch["model"], step
    )
    return jax.value_and_grad(fn, has_aux=True)(model)

  (r, of_r), (g, of_g), (b, of_b) = truth(params["model"])
  last = [tree["decoder"]["params"]["out"] for tree in (of_r, of_g)]
  norm = [
    np.sqrt(sum(np.sum(np.float64(a) ** 2) for a in jax.tree.leaves(tree)))
    for tree in last
  ]
  for step in (1, 2):
    (value, (metrics, _)), grads = run(params["model"], step)
    share = norm[0] / norm[1] * 0.7 * (step >= 2)
    np.testing.assert_allclose(metrics["weight"], norm[0] / norm[1], rtol=1e-3)
    np.testing.assert_allclose(metrics["reconstruction"], r, rtol=1e-5)
    np.testing.assert_allclose(metrics["generator"], g, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(value, r + share * g + b, rtol=1e-4)
    expected = jax.tree.map(
      lambda a, b, c, share=share: a + share * b + c, of_r, of_g, of_b
    )
    expect.close(grads, expected, 2e-3, 1e-4)


def test_the_discriminators_loss():
  """The hinge on every patch of both images, 0 before the game."""
  ex, codec, params, batch = started()
  x = batch["discriminator"][0]

  @jax.jit
  def both(step):
    turn = ex.turns[1].loss_fn
    made = parts(codec, params, x)[3]
    scores = [patches(params, images).logits for images in (x, made)]
    return turn(params, {}, KEY, batch["discriminator"], step), scores

  (value, (metrics, _)), (real, found) = both(2)
  hinge = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + found).mean()
  assert real.shape == (4, 4, 4) and hinge > 0
  np.testing.assert_allclose(value, hinge, rtol=1e-5)
  np.testing.assert_allclose(
    metrics["gap"], np.mean(real - found), rtol=1e-4, atol=1e-6
  )
  assert both(1)[0][0] == 0


def halves(images):
  """Features of a user's: two layers."""
  return jnp.tanh(images[:, :4]), images.reshape(len(images), -1) * 2


def test_features_by_name_and_by_function():
  net, x = patch_discriminator.PatchDiscriminator(4, 1), jnp.ones((8, 8, 1))
  make = lambda place: image_features.make(place, net, x.shape, KEY)
  params = twins.randomise(jax.eval_shape(net.init, KEY, x))
  judge = lambda x: net.apply(params, x)
  assert make("none") is None
  own = make("discriminator")(judge, x)
  np.testing.assert_array_equal(own[0], judge(x).features[0])
  random = make("random")(None, x)
  drawn = net.apply(net.init(jax.random.clone(KEY), x), x).features
  assert len(random) == len(drawn) == 1
  np.testing.assert_allclose(random[0], drawn[0], rtol=1e-6)
  layers = make(f"{__name__}:halves")(None, x)
  np.testing.assert_array_equal(layers[0], jnp.tanh(x[:4]))
  np.testing.assert_array_equal(layers[1], jnp.full(64, 2.0))


def test_gaussian_latents_play_too():
  """The first stage of latent diffusion: all losses have finite gradients."""
  how = dict(quantizer="gaussian", features="none", error="squared")
  how |= dict(game_weight=0.5)
  ex, _, params, batch = started(**how)
  assert ex.num_codes is None

  @jax.jit
  def run(model):
    fn = lambda model: ex.turns[0].loss_fn(
      params | {"model": model}, {}, KEY, batch["model"], 5
    )
    return jax.value_and_grad(fn, has_aux=True)(model)

  (value, (metrics, _)), grads = run(params["model"])
  total = metrics["reconstruction"] + 1e-3 * metrics["kl"] / 64
  total += 0.5 * metrics["weight"] * metrics["generator"]
  np.testing.assert_allclose(value, total, rtol=1e-4)
  leaves = [np.abs(leaf).max() for leaf in jax.tree.leaves(grads)]
  assert np.all(np.isfinite(leaves)) and max(leaves) > 1e-4
