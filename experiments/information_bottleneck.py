"""The variational information bottleneck: classes from few nats of an image.

  python -m experiments.information_bottleneck digits --run-dir runs/bottleneck

A network encodes an image as a Gaussian of a latent, and a second one
classifies a sample of it. The loss is the cross entropy (distortion) plus beta
times the KL to N(0, I) (rate), an upper bound of what the latent tells of the
image. One run trains a model for each of --betas, side by side and without
influence on one another; result.json and curve.png have rate, distortion and
the share of wrong classes of each, on training and on held-out images.

Method: Alemi et al. 2017, arXiv:1612.00410.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import settings
from experiments.experiment import Experiment, Trained
from experiments.lib import checks, command_line, datasets, training
from experiments.pictures import latent_spaces
from experiments.recipes import single
from jaxgen.losses import information_bottleneck, variational
from jaxgen.models import vae
from jaxgen.training import state, step

NUM_MEASURED = 2000  # largest number of examples of a split
NUM_DRAWS = 12  # samples of the latent per measured example


@dataclasses.dataclass(frozen=True)
class Config(settings.Logging, settings.Devices, settings.Data, settings.Run):
  """Settings of one run; config.json stores all of them."""

  betas: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0)
  """Weights of the rate, each positive, increasing; one model for each."""
  latent: int = 8
  """Latent dimension, at least 1."""
  width: int = 128
  """Number of features of each hidden layer, at least 1."""
  num_blocks: int = 2
  """Number of hidden layers of the encoder, at least 1."""
  dropout: float = 0.0
  """Dropout probability of activations, from 0 to below 1."""

  num_steps: int = 3000
  """Number of training steps, at least 1."""
  batch_size: int = 64
  """Number of examples per step, at least 1."""
  learning_rate: float = 1e-3
  """First learning rate of Adam, positive; a cosine reduces it to 0."""
  log_every: int = 50
  """Number of steps between records of metrics.jsonl."""
  save_every: int = 1000
  """Number of steps between checkpoints."""
  samples_every: int = 1000
  """Number of steps between small pictures of the curve."""


PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(
      run_dir="runs/smoke-bottleneck",
      betas=(0.01, 1.0),
      latent=2,
      width=16,
      num_blocks=1,
      num_steps=20,
      batch_size=16,
      log_every=5,
      save_every=10,
      samples_every=10,
    ),
  ),
  "digits": (
    "The rate-distortion curve of the digits: a minute on two CPU cores.",
    Config(run_dir="runs/bottleneck"),
  ),
}


class Model(NamedTuple):
  """An encoder and a classifier of its latents, Flax modules of one example."""

  encoder: vae.Encoder
  classifier: vae.Decoder
  shape: tuple[int, ...]

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Parameters of one model."""
    encoder_key, classifier_key = jax.random.split(key)
    z = jnp.zeros(self.encoder.latent)
    return {
      "encoder": self.encoder.init(encoder_key, jnp.zeros(self.shape)),
      "classifier": self.classifier.init(classifier_key, z),
    }

  def loss(
    self, params: Any, x: Any, label: Any, noise: Any, beta: Any, key: Any
  ) -> information_bottleneck.Bottleneck:
    """The loss of one example and its parts, with dropout if there is a key."""
    how = {} if key is None else dict(train=True, rngs={"dropout": key})
    parts = self.encoder.apply(params["encoder"], x, **how)
    return information_bottleneck.information_bottleneck(
      lambda z: self.classifier.apply(params["classifier"], z),
      variational.gaussian(*parts),
      noise,
      label,
      beta=beta,
    )


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  data = datasets.load(config)
  _check(config, data)
  widths = (config.width,) * config.num_blocks
  model = Model(
    vae.Encoder(config.latent, widths, dropout=config.dropout),
    vae.Decoder((data.num_classes,), (config.width,)),
    data.shape,
  )
  number = len(config.betas)
  init = lambda key: jax.vmap(model.init)(jax.random.split(key, number))

  def draw(path, found):
    measured = measure(config, model, data, found)
    table = {name: part[:3] for name, part in measured.items()}
    entropy = label_entropy(data.real[1])
    latent_spaces.rate_distortion(path, table, np.array(config.betas), entropy)

  return single.experiment_of(
    config,
    data,
    init,
    make_turns(config, model),
    sampled=(),
    pictures=(("curve.png", draw),),
    sheet=draw,
    measure=lambda found: record(config, measure(config, model, data, found)),
  )


def make_turns(config: Config, model: Model) -> tuple[step.Turn, ...]:
  """The game of one player: the sum of the losses of independent models.

  Adam scales each parameter by itself, so the models do not influence one
  another.
  """
  betas = jnp.asarray(config.betas, jnp.float32)

  def loss_fn(params, extras, key, batch, step):
    examples, labels = batch

    def one(params, beta, key):  # one model
      noise_key, net_key = jax.random.split(key)
      noise = jax.random.normal(noise_key, (len(examples), config.latent))
      keys = jax.random.split(net_key, len(examples))
      loss = jax.vmap(model.loss, (None, 0, 0, 0, None, 0))
      found = loss(params, examples, labels, noise, beta, keys)
      return found.loss.mean(), found.rate.mean()

    keys = jax.random.split(key, len(config.betas))
    losses, rates = jax.vmap(one)(params["model"], betas, keys)
    return losses.sum(), ({"rate": rates.mean()}, extras)

  rate = optax.cosine_decay_schedule(config.learning_rate, config.num_steps)
  return (step.Turn("model", loss_fn, optax.adam(rate)),)


class Part(NamedTuple):
  """Means over the examples of a split, for each beta, [B].

  Attributes:
    rates: KL to N(0, I), nats.
    distortions: cross entropy for one sample of the latent, nats.
    errors: share of wrong classes, by the mean probability of NUM_DRAWS.
    number: number of examples.
  """

  rates: np.ndarray
  distortions: np.ndarray
  errors: np.ndarray
  number: int


def measure(
  config: Config, model: Model, data: datasets.Data, found: Trained
) -> dict[str, Part]:
  """What the models reach on the training and the validation split."""
  key = jax.random.fold_in(jax.random.key(config.seed), 1001)

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None, None, None))
  @functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
  def run(params, x, label, key):
    noises = jax.random.normal(key, (NUM_DRAWS, config.latent))
    loss = lambda noise: model.loss(params, x, label, noise, 1.0, None)
    draws = jax.vmap(loss)(noises)
    guess = jax.nn.softmax(draws.logits).mean(0).argmax()
    return draws.rate[0], draws.distortion.mean(), guess != label

  parts = {}
  for n, name in enumerate(("train", "validation")):
    examples, labels = (part[:NUM_MEASURED] for part in data.split(name))
    keys = jax.random.split(jax.random.fold_in(key, n), len(examples))
    values = run(found.players["model"], examples, jnp.asarray(labels), keys)
    means = (np.asarray(value, np.float64).mean(1) for value in values)
    parts[name] = Part(*means, len(examples))
  return parts


def label_entropy(labels: np.ndarray) -> float:
  """Entropy of the classes' shares, in nats."""
  shares = np.unique(labels, return_counts=True)[1] / len(labels)
  return float(-(shares * np.log(shares)).sum())


def record(
  config: Config, found: dict[str, Part]
) -> tuple[dict[str, Any], str]:
  """The record of result.json and its text."""
  values = dict(betas=list(config.betas))
  lines = [
    f"{'beta':>8}{'split':>12}{'rate':>9}{'distortion':>12}{'errors':>9}"
  ]
  for name, part in found.items():
    values[name] = {
      key: part._asdict()[key].tolist() for key in part._fields[:3]
    } | dict(number=part.number)
  for n, beta in enumerate(config.betas):
    for name, part in found.items():
      lines.append(
        f"{beta:>8g}{name:>12}{part.rates[n]:>9.3f}{part.distortions[n]:>12.4f}"
        f"{part.errors[n]:>9.4f}"
      )
  return values, "\n".join(lines)


def run(config: Config) -> state.State:
  """Trains, measures and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _check(config, data):
  counts = "num_steps batch_size latent width num_blocks log_every save_every"
  counts += " samples_every keep"
  checks.at_least(config, **dict.fromkeys(counts.split(), 1))
  checks.known(config)
  checks.positive(config, "learning_rate")
  checks.fraction(config, "dropout")
  rising = all(0 < beta < math.inf for beta in config.betas)
  rising = rising and sorted(set(config.betas)) == list(config.betas)
  if not config.betas or not rising:
    raise ValueError(
      "betas: expected positive numbers that increase, got"
      f" {' '.join(map(str, config.betas)) or 'none'}"
    )
  if data.num_classes < 2:
    raise ValueError(
      f"data: expected a dataset with classes, got {config.data}"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
