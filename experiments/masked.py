"""Masked models: levels are revealed a few at a time, in any order.

  python -m experiments.masked binary-digits --run-dir runs/masked
  python -m experiments.masked digits --run-dir runs/masked-levels
  python -m experiments.evaluate runs/masked --sample-steps 16
  python -m experiments.sample runs/masked --sample-steps 8 --guidance 1.5
  python -m experiments.masked tokens --codec runs/vqvae --run-dir runs/tokens

The network (dense layers, a transformer, or a U-Net of images) sees an example
of which some entries are masked and predicts the others. The loss is the
negative ELBO of masked diffusion, which is the mean negative log-likelihood
over all orders of the entries, per entry; `evaluate` reports it as a lower
bound, or with --num-orders the exact log-likelihood of a mixture of fixed
orders. Samples take --sample-steps network calls, or with --sampler one_by_one
or in_order one call an entry, which is exact. Any entries may be given:
infilling.png shows what the model makes of halves of images.

Methods: Uria et al. 2014, arXiv:1310.1757 (any order); Sahoo et al. 2024,
arXiv:2406.07524 and Shi et al. 2024, arXiv:2406.04329 (masked diffusion);
Chang et al. 2022, arXiv:2202.04200 (MaskGIT); Wang et al. 2025,
arXiv:2503.00307 (remasking).
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import settings
from experiments.experiment import Experiment, LogLikelihood
from experiments.lib import checks, command_line, datasets, training
from experiments.pictures import figures
from experiments.recipes import second_stage, single, unmasking
from jaxgen import masks
from jaxgen.losses import masked
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

  # Only samples and reported likelihoods depend on them.
  may_change = (
    *("sampler", "sample_steps", "mask_grid", "remask", "temperature"),
    *("guidance", "num_orders"),
  )

  model: Literal["mlp", "transformer", "unet"] = "transformer"
  """Network: dense layers of all entries, a transformer, or a U-Net of
  images."""
  output: Literal["auto", "bernoulli", "categorical", "logistic_mixture"] = (
    "auto"
  )
  """Distribution of a level; auto is bernoulli for two levels, categorical for
  up to 64 and logistic_mixture for more."""
  num_components: int = 5
  """Number of logistic distributions in logistic_mixture, at least 1."""
  num_bins: int = 64
  """Number of levels per coordinate of points, at least 2."""
  masking: Literal["number", "linear", "cosine"] = "number"
  """How training masks: a uniform number of entries, or each entry with the
  probability of a schedule; all have the same expected loss."""
  width: int = 64
  """Number of features of the network, or of the U-Net's channels at full size,
  at least 1."""
  num_blocks: int = 3
  """Number of hidden layers, or of blocks: of the U-Net, per level and
  direction; at least 1."""
  num_heads: int = 4
  """Number of attention heads of the transformer and the U-Net, at least 1."""
  dropout: float = 0.0
  """Dropout probability of activations, from 0 to below 1."""
  label_dropout: float = 0.0
  """Fraction of labels replaced by the null label, from 0 to 1."""
  sampler: Literal["unmask", "confident", "one_by_one", "in_order"] = "unmask"
  """Token solver: random unmasking, MaskGIT's confidence, one random entry a
  step, or one entry a step in raster order."""
  sample_steps: int = 16
  """Number of steps of unmask and confident, at least 1."""
  mask_grid: Literal["linear", "cosine"] = "cosine"
  """Masking probabilities of the steps; cosine reveals few entries at first."""
  remask: float = 0.0
  """Remasking of unmask, from 0 (none) to 1."""
  temperature: float = 1.0
  """Randomness in which entries confident keeps, at least 0."""
  guidance: float = 1.0
  """Weight w of guidance of the logits, at least 0: null label + w (label -
  null label); 1 is no guidance."""
  num_orders: int = 0
  """Number of fixed random orders, of whose mixture `evaluate` reports the
  exact log-likelihood; 0 reports the bound, over random orders."""


_SMOKE = dict(width=16, num_blocks=1, sample_steps=4)
_SMOKE |= dict(num_steps=20, warmup_steps=5, batch_size=16, log_every=5)
_SMOKE |= dict(save_every=10, samples_every=10)
# Overfitting begins within minutes: much dropout, few steps.
_DENSE = dict(
  model="mlp",
  width=512,
  num_blocks=2,
  dropout=0.5,
  label_dropout=0.3,
  num_steps=1200,
  batch_size=128,
  learning_rate=2e-3,
)
_DIGITS = dict(
  model="unet",
  width=48,
  num_blocks=1,
  num_heads=1,
  dropout=0.3,
  label_dropout=0.3,
  num_steps=5000,
  batch_size=64,
  learning_rate=2e-3,
)
_BINARY = _DENSE | dict(num_blocks=1, dropout=0.2, num_steps=4000)
PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(run_dir="runs/smoke-masked", **_SMOKE),
  ),
  "digits": (
    "A U-Net on the digits' 17 levels: minutes on two CPU cores.",
    Config(run_dir="runs/masked-digits", **_DIGITS),
  ),
  "binary-digits": (
    "Dense layers on the digits in black and white: minutes.",
    Config(run_dir="runs/masked-binary", data="binary_digits", **_BINARY),
  ),
  "tokens": (
    "The tokens of a first stage, --codec RUN: minutes on two CPU cores.",
    Config(
      run_dir="runs/masked-tokens",
      codec="runs/vqvae",
      sampler="one_by_one",  # exact, by as many calls as there are tokens
      **_DENSE | dict(label_dropout=0.1),
    ),
  ),
  "toy": (
    "A distribution on the plane: eight Gaussians, or another set by --data.",
    Config(
      run_dir="runs/masked-toy",
      data="eight_gaussians",
      model="mlp",
      width=128,
      num_blocks=2,
      sampler="one_by_one",
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
  model = unmasking.make(config, latents)

  def sample(p, extras, key, label):
    solver_key, data_key = jax.random.split(key)
    states = model.states(p["model"], solver_key, label)
    values = jax.vmap(model.values)(states)
    return values, model.codec.to_data(data_key, states[-1])

  def log_likelihood(p, extras, key, example, label):
    return model.log_prob(p["model"], key, example, label)

  exact, shown = config.num_orders > 0, single.shown(config, latents)
  ex = single.experiment_of(
    config,
    latents,
    model.init,
    training.one_player(config, make_loss(config, model, data.num_classes)),
    sample=sample,
    times=unmasking.marks(model),
    num_calls=len(model.times) - 1,
    log_likelihood=LogLikelihood(
      "exact" if exact else "lower bound",
      model.codec.of,
      log_likelihood,
      1 if exact else 4,
    ),
    measure=functools.partial(unmasking.record, model, shown),
    pictures=_pictures(model, shown, second_stage.viewer(first, data)),
  )
  return second_stage.decoded(first, data, ex)


def make_loss(config: Config, model: unmasking.Model, num_classes: int):
  """(params, key, batch) -> (loss, metrics), over a batch."""

  def loss_fn(params, key, batch):  # examples [B, *D], labels [B] or None
    examples, labels = batch
    time_key, mask_key, label_key, net_key = jax.random.split(key, 4)
    labels = single.drop_labels(config, num_classes, label_key, labels)
    times = masks.stratified(time_key, len(examples))
    mask_keys = jax.random.split(mask_key, len(examples))
    net_keys = jax.random.split(net_key, len(examples))

    def loss(data, label, t, mask_key, net_key):  # one example
      visible, weight = unmasking.draw_visible(
        config.masking, mask_key, t, jnp.zeros(data.shape, bool)
      )
      params_fn = model.params_fn(
        params, label, train=True, rngs={"dropout": net_key}
      )
      nats = masked.cross_entropy(
        params_fn, model.codec.to_levels(data), visible, output=model.output
      )
      return weight * nats / data.size

    losses = jax.vmap(loss)(examples, labels, times, mask_keys, net_keys)
    return losses.mean(), {}

  return loss_fn


def run(config: Config) -> state.State:
  """Trains, samples, measures, draws; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _pictures(model, data, view):
  if len(data.shape) != 3:
    return ()

  def plot(path, found):
    params = found.params["model"]
    rows, columns = unmasking.fillings(model, data, params, view)
    figures.image_trajectory(
      path, rows, "upper half given", columns, rows_are="one image per row"
    )

  return (("infilling.png", plot),)


def _check(config):
  single.check(config, "num_components", "width", "num_blocks", "sample_steps")
  checks.at_least(config, num_bins=2, num_heads=1, num_orders=0)
  checks.nonnegative(config, "guidance", "temperature")
  checks.fraction(config, "dropout")
  if not 0 <= config.remask <= 1:
    raise ValueError(f"remask: expected 0 to 1, got {config.remask}")


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
