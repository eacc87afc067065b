"""Models of bytes: likelihoods by direct sums and by enumeration; samples."""

import dataclasses
import itertools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from experiments import text as script
from experiments.lib import likelihoods, monitors, samples
from experiments.pictures import texts
from experiments.recipes import byte_models, unmasking
from jaxgen import outputs, samplers
from jaxgen.data import byte_pairs, text
from jaxgen.models import causal, recurrent
from tests import expect

SIZES = dict(length=8, width=8, num_heads=2, num_blocks=1, sample_steps=3)
key, OUTPUT = jax.random.key, outputs.categorical(256)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
  """A file of 300 bytes, whose test part has 30: six windows and a rest."""
  path = tmp_path_factory.mktemp("own") / "own.txt"
  path.write_bytes(
    bytes(np.random.RandomState(0).randint(0, 128, 300, "uint8"))
  )
  return path


def config_of(path, **changes):
  return script.Config("", data=f"text:{path}", **SIZES | changes)


def noisy(params):
  """Parameters at random, also those that start at zero."""
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.RandomState(0)
  drawn = [x + 0.5 * rng.standard_normal(x.shape).astype("f4") for x in leaves]
  return jax.tree.unflatten(tree, drawn)


@pytest.mark.parametrize("model", ["transformer", "gru", "lstm"])
def test_the_likelihood_of_a_split_is_a_direct_sum(own, model):
  ex = script.experiment(config_of(own, model=model))
  params = {"model": noisy(jax.jit(ex.players)(key(0))["model"])}
  (row,) = likelihoods.measurer(ex, "test")(params, {}, key(0))
  body = text.split(own.read_bytes())["test"]
  assert len(body) == 30
  starts = [max(0, min((i - 8) // 4 * 4 + 4, 30 - 8)) for i in range(30)]
  assert starts[7:] == [0, *np.repeat([4, 8, 12, 16, 20, 22], 4)[:-2]]
  tokens = np.zeros((30, 8), int)  # what comes after the context has no effect
  for i, start in enumerate(starts):
    tokens[i, : i - start] = list(body[start:i])
  net = causal.Transformer(8, 256, 8, 1, 2, rotary=True)
  if model != "transformer":
    net = recurrent.Recurrent(8, 256, model, 8, 1)
  of = lambda context: net.apply(params["model"], jax.nn.one_hot(context, 256))
  rows = np.arange(30)
  logits = jax.jit(jax.vmap(of))(tokens)[rows, rows - np.array(starts)]
  nats = special.log_softmax(np.asarray(logits, float), -1)[rows, [*body]]
  np.testing.assert_allclose(
    row.bits_per_dim, -nats.sum() / 30 / math.log(2), rtol=1e-5
  )
  assert (row.kind, row.of) == ("exact", "bytes")


def test_pieces_are_scored_in_bits_of_the_bytes(tmp_path):
  """-log2 of all tokens' probabilities over the number of bytes."""
  path = tmp_path / "own.txt"
  path.write_bytes(b"the cat sat on the mat and the dog ran to the cat. " * 20)
  config = config_of(path, vocabulary=280, length=6, model="gru")
  ex = script.experiment(config)
  parts = text.split(path.read_bytes())
  vocabulary = byte_pairs.fit(parts["train"], 280)
  tokens, number = vocabulary.encode(parts["test"]), len(vocabulary.pieces)
  windows, _ = ex.data.split("test")
  scored = windows[windows < number]
  np.testing.assert_array_equal(scored, tokens)  # each token once
  assert ex.data.to_bytes(scored) == parts["test"]
  params = {"model": noisy(jax.jit(ex.players)(key(0))["model"])}
  (row,) = likelihoods.measurer(ex, "test")(params, {}, key(0))
  net = recurrent.Recurrent(6, number, "gru", 8, 1)
  of = lambda window: net.apply(params["model"], jax.nn.one_hot(window, number))
  logits = jax.jit(jax.vmap(of))(windows % number)
  nats = special.log_softmax(np.asarray(logits, float), -1)
  found = np.take_along_axis(nats, windows[..., None] % number, -1)[..., 0]
  bits = -found[windows < number].sum() / len(parts["test"]) / math.log(2)
  np.testing.assert_allclose(row.bits_per_dim, bits, rtol=1e-5)
  assert row.kind == "lower bound" and row.draw_error == 0
  assert ex.checksums["vocabulary"] == vocabulary.digest
  record, _ = ex.measure(None)
  assert record["vocabulary_sha256"] == vocabulary.digest
  assert record["test_tokens"] == len(tokens)


def test_a_text_that_changed_is_rejected(own, tmp_path):
  """By a resumed run, and by what reads the run."""
  body = own.read_bytes()
  run_dir = str(tmp_path / "run")
  some = dict(run_dir=run_dir, num_steps=2, warmup_steps=0, batch_size=4)
  config = dataclasses.replace(config_of(own, model="gru"), **some)
  script.run(config)
  samples.read(run_dir)
  own.write_bytes(body[::-1])
  with pytest.raises(ValueError, match=r"^run_dir: .*another configuration"):
    script.run(dataclasses.replace(config, num_steps=3))
  with pytest.raises(ValueError, match=r"data: has changed since this run was"):
    samples.read(run_dir)
  own.write_bytes(body)
  samples.read(run_dir)


class Counting:
  """A network that is no function of places: logits from what is visible."""

  out_features = 256
  table = 0.3 * np.random.RandomState(1).standard_normal((257, 256))

  def apply(self, params, tokens):
    seen = (jnp.arange(len(tokens)) + 1) @ tokens
    return jnp.tile(seen @ jnp.asarray(self.table, "float32"), (len(tokens), 1))


def test_the_bound_is_the_mean_over_orders_of_what_is_not_given():
  """All subsets of each number, which the draws must give, and all orders."""
  model = byte_models.of_masked(Counting(), 5, 5)
  levels = np.array([65, 66, 67, 68, 69])
  given = np.array([True, False, False, True, False])
  entries = [1, 2, 4]

  def log_prob(entry, known):  # of one entry given others
    tokens = np.full(5, 256)
    tokens[known] = levels[known]
    seen = (np.arange(5) + 1) @ np.eye(257)[tokens] @ Counting.table
    return special.log_softmax(seen)[levels[entry]]

  orders = [*itertools.permutations(entries)]
  mean = np.mean(
    [
      sum(log_prob(order[i], [0, 3, *order[:i]]) for i in range(3))
      for order in orders
    ]
  )
  us = jnp.array([1.0, 0.5, 0.01])  # 0, 1 and 2 of 3 are visible
  each = jax.vmap(
    lambda key, u: (
      unmasking.draw_visible("number", key, u, given)[0],
      model.log_prob(
        None, jax.random.clone(key), u, jnp.asarray(levels), given
      ),
    ),
    (0, None),
  )
  found = []
  for n, u in enumerate(us):
    visible, nats = map(
      np.asarray, jax.jit(each)(jax.random.split(key(n), 40), u)
    )
    assert visible[:, given].all()
    subsets = dict(zip(map(tuple, visible[:, entries]), nats, strict=True))
    assert {sum(subset) for subset in subsets} == {n}
    assert len(subsets) == math.comb(3, n)
    found.append(np.mean([*subsets.values()]))
  np.testing.assert_allclose(np.mean(found), mean, rtol=1e-5)


def test_uniform_bytes_have_eight_bits(own):
  """Networks start at zero: each draw of the bound is exact, of every byte."""
  ex = script.experiment(config_of(own, model="masked"))
  params = jax.jit(ex.players)(key(0))
  (row,) = likelihoods.measurer(ex, "validation")(params, {}, key(0))
  assert row.kind == "lower bound" and row.bits_per_dim == pytest.approx(8)
  assert row.draw_error < 1e-4
  loss_fn = script.make_loss(byte_models.make(ex.config, 256), 256)
  batch = ex.batches(key(0))(0)["model"]
  loss, _ = jax.jit(loss_fn)(params["model"], key(0), batch)
  assert loss == pytest.approx(math.log(256), rel=1e-5)


def test_samples_are_those_of_whole_evaluations():
  net = causal.Transformer(8, 256, 8, 1, 2, rotary=True)
  model = byte_models.of_causal(net, 8)
  params = noisy(jax.jit(model.init)(key(0)))
  found = jax.jit(model.sample)(params, key(0))
  read = lambda levels: jax.nn.one_hot(levels, 256)
  slow = jax.jit(
    lambda key: samplers.autoregressive_by_forwards(
      lambda levels: net.apply(params, read(levels)), OUTPUT, (8,), key
    )
  )
  np.testing.assert_array_equal(found, slow(key(0)))
  assert found.shape == (8,) and found.dtype == jnp.int32


@pytest.mark.parametrize("steps, calls", [(3, 3), (8, 8), (20, 8)])
def test_masked_samples_are_bytes(steps, calls):
  model = byte_models.of_masked(Counting(), 8, steps)
  sample = jax.jit(lambda key: model.sample(None, key))
  found = sample(key(0))
  assert model.num_calls == calls
  assert found.shape == (8,) and found.dtype == jnp.int32
  assert np.all((found >= 0) & (found < 256))
  assert not np.array_equal(found, sample(key(1)))


def test_samples_are_written_as_text(tmp_path):
  body = "été\n\tx".encode() + b"\xff\x1b"
  samples = np.frombuffer(body, np.uint8).astype(int)[None].repeat(2, 0)
  to_bytes = lambda tokens: np.asarray(tokens, np.uint8).tobytes()
  texts.write(tmp_path / "found.txt", samples, to_bytes)
  one = "été\n\tx\ufffd\ufffd\n"
  found = (tmp_path / "found.txt").read_text(encoding="utf-8")
  assert found == f"[0]\n{one}\n[1]\n{one}"


def test_a_missing_package_names_the_setting(own, monkeypatch):
  monkeypatch.setitem(sys.modules, "tokenizers", None)
  said = "^vocabulary: expected the package tokenizers"
  expect.error(said, script.experiment, config_of(own, vocabulary=300))


def test_what_is_wrong_names_the_setting(tmp_path, own):
  wrong = {
    "data: expected docs or text:PATH, got 'digits'": dict(data="digits"),
    "data: expected docs or text:PATH, got 'text:'": dict(data="text:"),
    "length: expected an even number, got 7": dict(length=7),
    "data, length: expected at least 64 bytes in each": dict(length=64),
    "dropout: expected": dict(dropout=1.0),
    "vocabulary: expected above 256": dict(vocabulary=5),
    "^width, num_heads: expected a divisor": dict(width=9),
    "sample_steps: expected at least 1": dict(sample_steps=0),
  }
  for said, changes in wrong.items():
    config = script.Config("", **dict(data=f"text:{own}") | SIZES | changes)
    expect.error(said, script.experiment, config)
  for name, body, said in (
    ("empty.txt", b"", "expected text, got an empty file"),
    ("latin.txt", b"d\xe9j", "expected text in UTF-8, got byte 0xe9 at"),
  ):
    (tmp_path / name).write_bytes(body)
    config = config_of(tmp_path / name)
    expect.error(f"^data: .*{name}: {said}", script.experiment, config)
  with pytest.raises(FileNotFoundError, match=r"^data: "):
    script.experiment(config_of(tmp_path / "none.txt"))
  ex = script.experiment(config_of(own, metrics_every=5))
  expect.error("metrics_every: expected 0, as text", monitors.measures, ex)
