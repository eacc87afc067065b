"""Autoregressive models: exact likelihoods of levels, one position at a time.

  python -m experiments.autoregressive digits --run-dir runs/pixelcnn
  python -m experiments.autoregressive binary-digits --run-dir runs/binary
  python -m experiments.autoregressive toy --run-dir runs/toy --data moons
  python -m experiments.autoregressive tokens --codec runs/vqvae --run-dir \
    runs/tokens
  python -m experiments.evaluate runs/pixelcnn

--model chooses the network (--model transformer --width 64 --window 5, or
--model made --width 1000), --output the distribution of a level. The loss is
the exact negative log-likelihood. NADE, the recurrent networks and the
transformer sample with a cache, so that a sample costs about as much as one
evaluation; MADE and the PixelCNN evaluate the network once for each position.
Points on the plane become levels on a grid, with a constant density in each of
its squares.

Methods: Larochelle and Murray 2011 (NADE); Germain et al. 2015,
arXiv:1502.03509 (MADE); van den Oord et al. 2016, arXiv:1606.05328 (gated
PixelCNN); Salimans et al. 2017, arXiv:1701.05517 (logistic mixtures); Child et
al. 2019, arXiv:1904.10509 (transformers).
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import settings
from experiments.experiment import Experiment, LogLikelihood
from experiments.lib import checks, command_line, datasets, training
from experiments.pictures import densities
from experiments.recipes import second_stage, sequences, single
from jaxgen.losses import autoregressive
from jaxgen.training import state


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Optimizer,
  settings.Devices,
  settings.SecondStage,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  model: Literal["made", "nade", "pixelcnn", "gru", "lstm", "transformer"] = (
    "pixelcnn"
  )
  """Network; the PixelCNN needs images."""
  output: Literal["auto", "bernoulli", "categorical", "logistic_mixture"] = (
    "auto"
  )
  """Distribution of a level; auto is bernoulli for two levels, categorical for
  up to 64 and logistic_mixture for more."""
  num_components: int = 5
  """Number of logistic distributions in logistic_mixture, at least 1."""
  num_bins: int = 64
  """Number of levels per coordinate of points, at least 2."""
  num_orders: int = 1
  """Number of orders of MADE, whose probabilities are averaged, at least 1: the
  raster order and random ones."""
  width: int = 48
  """Number of features of the network, at least 1."""
  num_blocks: int = 3
  """Number of hidden layers or blocks, at least 1; NADE has one."""
  num_heads: int = 4
  """Number of attention heads of the transformer, at least 1."""
  first_kernel: int = 5
  """Side of the PixelCNN's first convolutions, odd."""
  window: int = 0
  """Side, odd, of the window of pixels before its own that each position of a
  transformer, GRU or LSTM sees as a further input; 0 is none."""
  dropout: float = 0.0
  """Dropout probability of activations, from 0 to below 1."""
  label_dropout: float = 0.0
  """Fraction of labels replaced by the null label, from 0 to 1."""


_SMOKE = dict(width=8, num_blocks=1)
_SMOKE |= dict(num_steps=20, warmup_steps=5, batch_size=16, log_every=5)
_SMOKE |= dict(save_every=10, samples_every=10)
_DIGITS = dict(
  dropout=0.3,
  label_dropout=0.3,
  num_steps=800,
  batch_size=64,
  learning_rate=2.5e-3,
  schedule="constant",
)
_BINARY = _DIGITS | dict(
  data="binary_digits", learning_rate=3e-3, schedule="cosine"
)
PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(run_dir="runs/smoke-autoregressive", **_SMOKE),
  ),
  "digits": (
    "A gated PixelCNN of the digits' 17 levels: minutes on two CPU cores.",
    Config(run_dir="runs/autoregressive-digits", **_DIGITS),
  ),
  "binary-digits": (
    "The same on the digits in black and white.",
    Config(run_dir="runs/autoregressive-binary", **_BINARY),
  ),
  "tokens": (
    "The tokens of a first stage, --codec RUN: minutes on two CPU cores.",
    Config(
      run_dir="runs/autoregressive-tokens",
      codec="runs/vqvae",
      **_DIGITS | dict(model="transformer", width=64),
    ),
  ),
  "toy": (
    "A distribution on the plane: eight Gaussians, or another set by --data.",
    Config(
      run_dir="runs/autoregressive-toy",
      data="eight_gaussians",
      model="made",
      width=128,
      num_blocks=2,
      num_steps=2000,
      batch_size=512,
      log_every=50,
      save_every=1000,
      samples_every=1000,
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  data = datasets.load(config)
  _check(config)
  first = second_stage.read(config, data, tokens=True)
  latents = second_stage.latents(first, data, config.flip)
  model = sequences.make(config, latents)

  def sample(p, extras, key, label):
    return None, model.sample(p["model"], key, label)

  def log_likelihood(p, extras, key, example, label):
    return model.log_prob(p["model"], example, label)

  ex = single.experiment_of(
    config,
    latents,
    model.init,
    training.one_player(config, make_loss(config, model, data.num_classes)),
    sample=sample,
    num_calls=model.num_calls,
    log_likelihood=LogLikelihood("exact", model.codec.of, log_likelihood),
    pictures=_pictures(model, data),
  )
  return second_stage.decoded(first, data, ex)


def make_loss(config: Config, model: sequences.Model, num_classes: int):
  """(params, key, batch) -> (loss, metrics), over a batch."""

  def loss_fn(params, key, batch):  # examples [B, *D], labels [B] or None
    examples, labels = batch
    order_key, label_key, net_key = jax.random.split(key, 3)
    labels = single.drop_labels(config, num_classes, label_key, labels)
    order = jnp.asarray(model.orders)[model.draw_order(order_key)]
    net_keys = jax.random.split(net_key, len(examples))

    def loss(data, label, net_key):  # one example
      params_fn = lambda levels: model.params(
        params, levels, label, order, train=True, rngs={"dropout": net_key}
      )
      return autoregressive.negative_log_likelihood(
        params_fn, model.codec.to_levels(data), output=model.output
      )

    return jax.vmap(loss)(examples, labels, net_keys).mean(), {}

  return loss_fn


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _pictures(model, data):
  if data.shape != (2,):
    return ()
  truth = None if data.distribution is None else data.distribution.log_prob

  def plot(path, found):
    log_prob = lambda x: model.log_prob(found.params["model"], x, None)
    densities.plot(path, log_prob, data.real[0], truth)

  return (("density.png", plot),)


def _check(config):
  single.check(config, "num_components", "num_orders", "width", "num_blocks")
  checks.at_least(config, num_bins=2, num_heads=1)
  checks.fraction(config, "dropout")
  if config.window and (config.window < 3 or config.window % 2 == 0):
    raise ValueError(
      f"window: expected 0 or an odd number above 1, got {config.window}"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
