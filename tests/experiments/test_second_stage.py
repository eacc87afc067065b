"""Models of the latents of a first stage: latents, samples and refusals."""

import dataclasses
import json
import math
import pathlib
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate, masked, sample
from experiments.lib import averages, datasets, samples
from experiments.recipes import second_stage, unmasking
from tests import expect
from tests.experiments import scripts

CODEC = "residual vqvae"
MASKED = dict(model="mlp", width=8, num_blocks=1, sample_steps=3)
MASKED |= dict(num_steps=3, warmup_steps=1, batch_size=4, save_every=3)
MASKED |= dict(log_every=3, samples_every=3)


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
  """The directory of a small run of a first stage with two codebooks."""
  directory = tmp_path_factory.mktemp("codec") / "run"
  return str(scripts.trained(CODEC, directory)[0])


def config_of(codec, **changes):
  return masked.Config(**dict(run_dir="", codec=codec) | MASKED | changes)


def opened(config, tokens=True):
  """(the images, the first stage, the dataset of latents)."""
  data = datasets.load(types.SimpleNamespace(**vars(config)))
  first = second_stage.read(config, data, tokens=tokens)
  return data, first, second_stage.latents(first, data, config.flip)


def test_latents_are_the_tokens_of_the_run(codec):
  data, first, latents = opened(config_of(codec))
  ex = samples.read(codec)
  trained = averages.load(ex)
  encode = jax.jit(jax.vmap(lambda x, y: ex.encode(*trained, x, y)))
  examples, labels = data.split("validation")
  tokens, same = latents.split("validation")
  expected = encode(examples, jnp.asarray(labels))  # [N, 2, 4, 4]
  np.testing.assert_array_equal(np.moveaxis(tokens, 3, 1), expected)
  np.testing.assert_array_equal(same, labels)
  assert tokens.dtype == np.int32 and tokens.shape == (180, 4, 4, 2)
  assert first.shape == latents.shape == (4, 4, 2)
  assert first.num_codes == latents.num_codes == 5
  assert latents.num_classes == 10 and len(np.unique(tokens)) > 1
  decode = jax.jit(jax.vmap(lambda z, y: ex.decode(*trained, z, y)))
  images = jax.jit(jax.vmap(first.decode))(tokens, jnp.asarray(labels))
  np.testing.assert_allclose(
    images, decode(expected, jnp.asarray(labels)), atol=1e-6
  )


def test_batches_are_the_latents_of_the_images_batches(codec):
  data, first, latents = opened(config_of(codec))
  key = jax.random.key(3)
  found, labels = latents.batches(key, 6)(4)
  examples, same = data.batches(key, 6)(4)
  np.testing.assert_array_equal(labels, same)
  expected = second_stage.by_parts(first.encode, examples, same)
  np.testing.assert_array_equal(found, expected)


def test_mirrored_images_are_encoded_too(codec):
  data, first, latents = opened(config_of(codec, flip=True))
  images, labels = data.split("train")
  found, twice = latents.split("train")
  assert len(found) == 2 * len(images)
  np.testing.assert_array_equal(twice, [*labels, *labels])
  few = slice(len(images), len(images) + 5)
  expected = second_stage.by_parts(
    first.encode, images[:5, :, ::-1], np.asarray(labels)[:5]
  )
  np.testing.assert_array_equal(found[few], expected)
  assert len(latents.split("validation")[0]) == 180


def test_parts_do_not_change_what_is_computed():
  x = np.arange(150.0, dtype="float32")
  labels = np.arange(150)
  found = second_stage.by_parts(lambda x, n: 2 * x + n, x, labels)
  np.testing.assert_array_equal(found, 3 * x)
  assert found.shape == (150,) and found.dtype == np.float32
  without = second_stage.by_parts(lambda x, n: x, x, None)
  np.testing.assert_array_equal(without, x)


def test_numbers_are_scaled_and_decoded_from_their_own_scale():
  config = scripts.small("latent", "")
  data, first, latents = opened(config, tokens=False)
  train, _ = latents.split("train")
  assert train.shape == (1257, 2) and train.dtype == np.float32
  few = second_stage.by_parts(
    first.encode, *data.batches(jax.random.key(0), second_stage.NUM_SCALED)(0)
  )
  np.testing.assert_allclose(few.mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(few.std(), 1, rtol=1e-4)
  assert (first.num_codes, latents.num_codes) == (None, None)
  ex = samples.read(config.codec)
  trained = averages.load(ex)
  x, label = jnp.asarray(data.real[0][0]), jnp.int32(3)
  z = ex.encode(*trained, x, label)
  np.testing.assert_allclose(
    first.decode(first.encode(x, label), label),
    ex.decode(*trained, z, label),
    atol=1e-5,
  )


def test_equal_latents_have_no_scale():
  images = np.zeros((4, 2, 2, 1), "float32")
  data = types.SimpleNamespace(
    batches=lambda key, n: lambda step: (images, None)
  )
  with pytest.raises(ValueError, match="codec: expected latents that differ"):
    second_stage._scaled(lambda x, label: x, None, data)


def test_no_codec_changes_nothing(codec):
  config = config_of(None)
  data = datasets.load(config)
  assert second_stage.read(config, data, tokens=True) is None
  assert second_stage.latents(None, data) is data
  assert second_stage.decoded(None, data, "experiment") == "experiment"
  assert second_stage.viewer(None, data)(3, None) == 3


def test_masked_tokens_are_grey(codec):
  data, first, latents = opened(config_of(codec))
  state = np.array(latents.real[0][0])
  view, label = second_stage.viewer(first, data), jnp.int32(0)
  whole = view(jnp.asarray(state), label)
  np.testing.assert_allclose(whole, first.decode(state, label), atol=1e-6)
  state[1, 2, 1] = first.num_codes  # one stage of one position
  part = np.asarray(view(jnp.asarray(state), label))
  assert part.shape == (8, 8, 1) and (part[2:4, 4:6] == 0).all()
  assert (np.delete(part, [2, 3], 0) != 0).all()


@pytest.fixture(scope="module")
def tokens_run(codec, tmp_path_factory):
  """A run on the tokens of a copy of the first stage, and that copy."""
  folder = tmp_path_factory.mktemp("tokens")
  own = str(folder / "codec")
  shutil.copytree(codec, own)
  config = config_of(own, run_dir=str(folder / "run"))
  with pytest.MonkeyPatch.context() as patch:
    scripts.without_pictures(patch)
    masked.run(config)
  return config


def test_samples_are_images_and_tokens_have_a_likelihood(tokens_run):
  made = sample.run(tokens_run.run_dir, sample.Config(number=4))
  assert made.shape == (4, 8, 8, 1) and np.ptp(made) > 0
  record = evaluate.run(tokens_run.run_dir, evaluate.Config(draws=1, number=20))
  row = record["log_likelihood"][0]
  assert (row["kind"], row["of"]) == ("lower bound", "tokens")
  bits = -row["nats"] / (4 * 4 * 2 * math.log(2))  # not of the 64 pixels
  assert row["bits_per_dim"] == pytest.approx(bits)
  ex = samples.read(tokens_run.run_dir)
  assert ex.reads == {"codec": tokens_run.codec} and ex.field is None
  trained = averages.load(ex)
  x, label = jnp.asarray(ex.data.real[0][0]), jnp.int32(1)
  _, first, latents = opened(tokens_run)
  inner = unmasking.make(tokens_run, latents)
  key = lambda: jax.random.key(0)
  np.testing.assert_allclose(
    ex.log_likelihood.log_prob(*trained, key(), x, label),
    inner.log_prob(trained[0]["model"], key(), first.encode(x, label), label),
    rtol=1e-5,
  )


def test_a_changed_first_stage_is_rejected(tokens_run):
  config, own = tokens_run, tokens_run.codec
  record = json.loads(pathlib.Path(config.run_dir, "config.json").read_text())
  assert record["reads"]["codec"]["run_dir"] == own
  assert record["reads"]["codec"]["step"] == 6
  scripts.trained(CODEC, own, num_steps=7)
  said = r"codec: .* has changed since .*\(step 6, now 7\)"
  expect.error(said, sample.run, config.run_dir, sample.Config(number=2))
  said = "another configuration .*reads"
  expect.error(said, masked.run, dataclasses.replace(config, num_steps=4))


@pytest.mark.parametrize(
  "changes, tokens, said",
  [
    (dict(codec="no"), True, "codec: no: no such run directory"),
    (
      dict(data="photos"),
      True,
      r"codec, data: .*\[32, 32, 3\] as in photos, got",
    ),
    ({}, False, "codec: expected a run whose latents are numbers, got tokens"),
  ],
)
def test_another_first_stage_is_rejected(codec, changes, tokens, said):
  config = dataclasses.replace(config_of(codec), **changes)
  with pytest.raises((ValueError, OSError), match=f"^{said}"):
    opened(config, tokens)
