"""Models of text, by bytes or pieces: causal networks, and a masked one.

  python -m experiments.text docs --run-dir runs/text
  python -m experiments.text docs --model gru --width 232 --run-dir runs/gru
  python -m experiments.text docs --vocabulary 1024 --run-dir runs/pieces
  python -m experiments.text docs --data text:book.txt --run-dir runs/book
  python -m experiments.evaluate runs/text --split test
  python -m experiments.sample runs/text --number 10

--data docs is the help text of Python itself, text:PATH a file of one's own. A
model knows windows of --length bytes, or of pieces from a --vocabulary that is
fitted to the training text. The transformer, GRU and LSTM give the exact
log-likelihood of bytes, the masked model a lower bound; of pieces both are
lower bounds, as one of many encodings is scored. `evaluate` scores every byte
of a split once (up to 2000 windows), with at least half a window before it; its
bits/dim are bits per byte. Samples are files of text.

Methods: Graves 2013, arXiv:1308.0850 (recurrent networks); Al-Rfou et al. 2018,
arXiv:1808.04444 (transformers of characters); Sahoo et al. 2024,
arXiv:2406.07524 (masked diffusion). docs/text.md describes data and figures.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import settings
from experiments.experiment import Experiment, LogLikelihood
from experiments.lib import checks, command_line, texts, training
from experiments.recipes import byte_models, single
from jaxgen import masks
from jaxgen.training import state


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Optimizer,
  settings.Devices,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  data: str = "docs"
  """Text: docs, the help text of Python, or text:PATH, a file in UTF-8."""
  length: int = 128
  """Number of bytes of a window, even; of pieces, with a vocabulary."""
  vocabulary: int = 0
  """Number of pieces of a vocabulary by byte-pair encoding of the training text
  (pip install tokenizers), above 256; 0 models bytes."""
  model: Literal["transformer", "gru", "lstm", "masked"] = "transformer"
  """Network: causal, or masked for a bidirectional transformer."""
  width: int = 128
  """Number of features of the network, at least 1."""
  num_blocks: int = 2
  """Number of transformer blocks, or of GRU or LSTM layers, at least 1."""
  num_heads: int = 2
  """Number of attention heads of a transformer, at least 1."""
  dropout: float = 0.0
  """Dropout probability of activations, from 0 to below 1."""
  sample_steps: int = 128
  """Number of steps in which the masked model reveals a sample, at least 1;
  from length on, one byte is revealed in each step, which is exact."""


_SMOKE = dict(length=32, width=16, num_blocks=1, num_heads=2, sample_steps=8)
_SMOKE |= dict(num_steps=20, warmup_steps=5, batch_size=16, log_every=5)
_SMOKE |= dict(save_every=10, samples_every=10)
PRESETS = {
  "smoke": (
    "In seconds: runs all code, but does not learn the text.",
    Config(run_dir="runs/smoke-text", **_SMOKE),
  ),
  "docs": (
    "Windows of 128 bytes of Python's help text: minutes on one CPU core.",
    Config(
      run_dir="runs/text-docs",
      num_steps=3500,
      batch_size=16,
      learning_rate=3e-3,
      warmup_steps=200,
      weight_decay=0.1,
      dropout=0.1,
      ema_decay=(0.99,),
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  single.check(config, "width", "num_blocks", "num_heads", "sample_steps")
  checks.fraction(config, "dropout")
  corpus = texts.load(config)
  model = byte_models.make(config, corpus.num_tokens)
  with checks.naming(config, depth="num_blocks"):
    jax.eval_shape(model.init, jax.random.key(0))

  def log_prob(p, extras, key, example, label):
    mask_key, u_key = jax.random.split(key)
    u = 1 - jax.random.uniform(u_key)
    levels, given = example % corpus.num_tokens, example >= corpus.num_tokens
    return model.log_prob(p["model"], mask_key, u, levels, given)

  def measure(found):
    size, digest = corpus.record["bytes"], corpus.record["sha256"]
    return corpus.record, f"{size} bytes of text, sha256 {digest}"

  # A text has many sequences of pieces, of which one is scored.
  is_one = model.kind == "exact"
  kind = "lower bound" if config.vocabulary else model.kind
  return single.experiment_of(
    config,
    corpus.data,
    model.init,
    training.one_player(config, make_loss(model, corpus.num_tokens)),
    sample=lambda p, extras, key, label: (None, model.sample(p["model"], key)),
    num_calls=model.num_calls,
    log_likelihood=LogLikelihood(
      kind, "bytes", log_prob, 1 if is_one else 8, corpus.num_bytes
    ),
    measure=measure,
    checksums=corpus.checksums,
  )


def make_loss(model: byte_models.Model, num_tokens: int):
  """(params, key, batch) -> (loss, metrics): nats per token, over a batch."""

  def loss_fn(params, key, batch):  # windows [B, T]
    windows, _ = batch
    time_key, mask_key, net_key = jax.random.split(key, 3)
    times = masks.stratified(time_key, len(windows))
    mask_keys = jax.random.split(mask_key, len(windows))
    net_keys = jax.random.split(net_key, len(windows))

    def loss(window, u, mask_key, net_key):  # one example
      # Held-out windows mark their context, which counts here as the rest.
      levels, none = window % num_tokens, jnp.zeros(window.shape, bool)
      rngs = {"dropout": net_key}
      nats = model.log_prob(
        params, mask_key, u, levels, none, train=True, rngs=rngs
      )
      return -nats / window.size

    return jax.vmap(loss)(windows, times, mask_keys, net_keys).mean(), {}

  return loss_fn


def run(config: Config) -> state.State:
  """Trains, samples and describes the text; resumes an existing directory."""
  return training.run(__file__, experiment(config))


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
