"""Normalizing flows: exact likelihoods by an invertible network.

  python -m experiments.normalizing_flow digits --run-dir runs/flow
  python -m experiments.normalizing_flow tarflow --run-dir runs/tarflow
  python -m experiments.normalizing_flow toy --run-dir runs/toy --data moons
  python -m experiments.evaluate runs/flow

A flow maps data to noise, and a sample is the inverse of noise. Levels are
dequantised: by noise in their bins, uniform or --dequantisation learned, or by
Gaussian noise of standard deviation --noise, which samples then lose again in
one step along the score. Images with noise in their bins first go through the
map that makes each pixel normal, so that the network starts from the model of
independent pixels.

Methods: Dinh et al. 2017, arXiv:1605.08803 (couplings); Durkan et al. 2019,
arXiv:1906.04032 (splines); Ho et al. 2019, arXiv:1902.00275 (learned
dequantisation); Papamakarios et al. 2017, arXiv:1705.07057 (masked
autoregressive flows); Zhai et al. 2024, arXiv:2412.06329 (TarFlow, noise
and denoising, guidance).
"""

import dataclasses
from typing import Literal

import jax
import numpy as np

from experiments import settings
from experiments.experiment import Experiment, LogLikelihood, Times
from experiments.lib import checks, command_line, datasets, training
from experiments.pictures import densities
from experiments.recipes import invertible, latents, single
from jaxgen.losses import normalizing_flow
from jaxgen.training import state


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Optimizer,
  settings.Devices,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  may_change = ("guidance", "sweeps")  # only samples depend on them

  model: Literal["coupling", "masked", "tarflow"] = "coupling"
  """Couplings of halves, masked autoregressive maps, or causal transformers
  over patches of images."""
  num_bins: int = 8
  """Number of bins of a spline, 2 to 500; 0 for affine maps. TarFlow's are
  affine."""
  num_blocks: int = 8
  """Number of couplings or of autoregressive maps, at least 1."""
  width: int = 256
  """Number of features of the networks, at least 1."""
  depth: int = 2
  """Number of residual blocks, hidden layers or transformer blocks of each
  network, at least 1."""
  patch: int = 2
  """Side of TarFlow's patches, in pixels."""
  num_heads: int = 4
  """Number of attention heads of TarFlow, at least 1."""
  dropout: float = 0.0
  """Dropout probability of activations, from 0 to below 1."""
  noise: float = 0.0
  """Standard deviation of Gaussian noise on the data, at least 0; 0 is noise
  within the bins of levels, and none for points."""
  dequantisation: Literal["uniform", "learned"] = "uniform"
  """Noise within the bins of levels: uniform, or that of couplings that are
  given the levels and trained with the flow, of the same width, depth and
  number of bins."""
  noise_blocks: int = 4
  """Number of couplings of learned dequantisation, at least 1."""
  label_dropout: float = 0.0
  """Fraction of labels replaced by the null label, from 0 to 1."""
  guidance: float = 1.0
  """Weight w of guidance of TarFlow's samples, at least 0: null label + w
  (label - null label); 1 is no guidance."""
  sweeps: int = 0
  """Number of blocks of patches that Jacobi sweeps invert one after the other,
  for TarFlow's samples; 0 inverts patch by patch with a cache."""


_SMOKE = dict(width=16, num_blocks=2, depth=1, num_bins=4)
_SMOKE |= dict(num_steps=20, warmup_steps=5, batch_size=16, log_every=5)
_SMOKE |= dict(save_every=10, samples_every=10)
# Overfitting begins within minutes: a small network, much dropout, few steps.
_DIGITS = dict(
  width=256,
  depth=1,
  num_blocks=8,
  dropout=0.5,
  label_dropout=0.1,
  num_steps=600,
  batch_size=128,
  learning_rate=1e-3,
)
_TARFLOW = dict(
  model="tarflow",
  width=64,
  num_blocks=6,
  dropout=0.2,
  label_dropout=0.1,
  num_steps=1500,
  batch_size=128,
  learning_rate=2e-3,
)
PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(run_dir="runs/smoke-flow", **_SMOKE),
  ),
  "digits": (
    "Spline couplings on the digits: minutes on two CPU cores.",
    Config(run_dir="runs/flow-digits", **_DIGITS),
  ),
  "tarflow": (
    "TarFlow on the digits: minutes on two CPU cores.",
    Config(run_dir="runs/tarflow", **_TARFLOW),
  ),
  "binary-digits": (
    "The same on the digits in black and white.",
    Config(run_dir="runs/flow-binary", data="binary_digits", **_DIGITS),
  ),
  "toy": (
    "A distribution on the plane: eight Gaussians, or another set by --data.",
    Config(
      run_dir="runs/flow-toy",
      data="eight_gaussians",
      width=64,
      num_blocks=6,
      num_bins=16,
      num_steps=3000,
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
  flow = invertible.make(config, data)
  shape = data.shape

  def sample(p, extras, key, label):
    latent = jax.random.normal(key, shape)
    states = flow.states(p["model"], latent, label)
    return states, flow.end(p["model"], states[-1], label)

  def log_likelihood(p, extras, key, x, label):
    draw = flow.noised(p["model"], key, x)
    return flow.log_prob(p["model"], draw.x, label) + draw.correction

  exact = data.levels is None and not config.noise
  return single.experiment_of(
    config,
    data,
    flow.init,
    training.one_player(config, make_loss(config, flow, data.num_classes)),
    sample=sample,
    times=_blocks(config),
    encode=lambda p, extras, x, label: flow.forward(p["model"], x, label)[0],
    decode=lambda p, extras, y, label: flow.decode(p["model"], y, label),
    between=latents.spherical,
    log_likelihood=LogLikelihood(
      "exact" if exact else "lower bound",
      flow.of,
      log_likelihood,
      1 if exact else 16,
    ),
    pictures=_pictures(flow, data),
  )


def make_loss(config: Config, flow: invertible.Flow, num_classes: int):
  """(params, key, batch) -> (loss, metrics), over a batch."""

  def loss_fn(params, key, batch):  # examples [B, *D], labels [B] or None
    examples, labels = batch
    noise_key, label_key, net_key = jax.random.split(key, 3)
    labels = single.drop_labels(config, num_classes, label_key, labels)
    noise_keys = jax.random.split(noise_key, len(examples))
    net_keys = jax.random.split(net_key, len(examples))

    def loss(data, label, noise_key, net_key):  # one example
      draw = flow.noised(params, noise_key, data)
      forward = lambda x: flow.forward(
        params, x, label, train=True, rngs={"dropout": net_key}
      )
      nats = normalizing_flow.negative_log_likelihood(forward, draw.x)
      return nats - draw.correction / data.size

    losses = jax.vmap(loss)(examples, labels, noise_keys, net_keys)
    return losses.mean(), {}

  return loss_fn


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _blocks(config):
  """Names the states of a sample in pictures."""
  marks = np.arange(config.num_blocks, -1, -1)
  return Times("blocks left", marks, np.ones(len(marks)))


def _pictures(flow, data):
  if data.shape != (2,):
    return ()
  truth = None if data.distribution is None else data.distribution.log_prob

  def plot(path, found):
    log_prob = lambda x: flow.log_prob(found.params["model"], x, None)
    densities.plot(path, log_prob, data.real[0], truth)

  return (("density.png", plot),)


def _check(config):
  single.check(config, "num_blocks", "width")
  checks.at_least(config, depth=1, noise_blocks=1, patch=1, num_heads=1)
  checks.at_least(config, sweeps=0)
  checks.nonnegative(config, "noise", "guidance")
  checks.fraction(config, "dropout")
  if config.num_bins != 0 and not 2 <= config.num_bins <= 500:
    raise ValueError(f"num_bins: expected 0 or 2 to 500, got {config.num_bins}")


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
