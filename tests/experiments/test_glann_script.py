"""GLANN: each stage learns its own players; rows belong to their examples."""

import jax
import numpy as np

from experiments import glann
from experiments.lib import datasets
from experiments.recipes import perceptual
from jaxgen.data import digits
from jaxgen.metrics import classifier
from jaxgen.training import state, step
from tests import trees
from tests.experiments import scripts


def test_a_stage_leaves_the_other_players_as_they_are(tmp_path):
  ex = glann.experiment(scripts.small("glann", tmp_path))
  keys = jax.random.split(jax.random.key(0), 3)
  now = state.init(keys[0], ex.players(keys[1]), ex.turns)
  batch_fn = ex.batches(keys[2])
  examples, rows = batch_fn(3)["generator"]
  known = datasets.load(ex.config).split("train")[0]
  np.testing.assert_array_equal(examples, known[rows])
  train = step.make_train_step(ex.turns)
  states = []
  for number in range(4):  # two steps of each stage
    params = {name: p.params for name, p in now.players.items()}
    states.append(jax.device_get(params))
    now, metrics = train(now, batch_fn(number))
    assert (metrics["generator/loss"] > 0) == (number < 2)
    assert (metrics["map/loss"] > 0) == (number >= 2)
  last = jax.device_get({name: p.params for name, p in now.players.items()})
  first, _, middle, _ = states
  trees.assert_close(middle["map"], first["map"], rtol=0, atol=0)
  trees.assert_close(last["generator"], middle["generator"], rtol=1e-6)
  differ = lambda a, b: [
    not np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  ]
  assert all(differ(first["generator"], middle["generator"]))
  assert any(differ(last["map"], middle["map"]))
  latents = last["generator"]["latents"]
  assert latents.shape == (len(known), 3)
  np.testing.assert_allclose(np.sum(latents**2, 1), 1, rtol=1e-5)


def test_samples_of_the_map_have_latents_of_norm_one(tmp_path):
  """A sample is the generator's example of the projected output of the map."""
  config = scripts.small("glann", tmp_path)
  ex = glann.experiment(config)
  players = ex.players(jax.random.key(0))
  states, made = ex.sample(players, {}, jax.random.key(1), None)
  noise = jax.random.normal(jax.random.key(1), (config.noise,))
  features = (config.width,) * config.num_blocks
  to_latent = glann.gan.Generator((config.latent,), features)
  latent = to_latent.apply(players["map"], noise)
  generator = glann.gan.Generator((2,), features)
  net = players["generator"]["net"]
  truth = generator.apply(net, latent / np.linalg.norm(latent))
  assert states is None and ex.num_calls == 2
  np.testing.assert_allclose(made, truth, rtol=1e-5, atol=1e-6)


def test_features_are_of_a_classifier_and_alike_in_scale():
  images, labels = digits.load("train")
  features_fn = perceptual.features_of(images, labels)
  found = np.asarray(jax.jit(jax.vmap(features_fn))(images))
  flat = images.reshape(len(images), -1)
  np.testing.assert_allclose(found[:, :64], flat, atol=1e-6)
  totals = [part.var(0).sum() for part in np.split(found, (64, 160), 1)]
  assert found.shape == (len(images), 208)
  np.testing.assert_allclose(totals, totals[0], rtol=1e-4)
  # A linear rule on the second layer knows the digits, unlike chance.
  near = classifier.fit(found[:600, 160:], labels[:600]).predict
  assert np.mean(near(found[600:, 160:]) == labels[600:]) > 0.9
