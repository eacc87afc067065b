"""Variational autoencoders: bounds on the likelihood by an encoder.

  python -m experiments.vae digits --run-dir runs/vae
  python -m experiments.vae binary-digits --run-dir runs/vae-binary
  python -m experiments.vae toy --run-dir runs/vae-toy --data moons
  python -m experiments.evaluate runs/vae-binary

--objective chooses the bound, --likelihood the decoder's distribution: of
levels (bernoulli, categorical, logistic_mixture), or a Gaussian whose standard
deviation is learned, that of the training error (calibrated), or fixed. A
sample is one of the decoder's distribution for a latent of the prior; decoding
gives the mean. result.json has the bounds, the KL and the active units of the
validation split.

Methods: Kingma and Welling 2014, arXiv:1312.6114; Higgins et al. 2017 (beta);
Kingma et al. 2016, arXiv:1606.04934 (free bits); Burda et al. 2016,
arXiv:1509.00519 (weighted samples); Tucker et al. 2018, arXiv:1810.04152 (their
gradient); Rybkin et al. 2021, arXiv:2006.13202 (calibrated decoders); Tomczak
and Welling 2018, arXiv:1705.07120 (the prior of pseudo-inputs); Im et al. 2017,
arXiv:1511.06406 (the hidden coordinates).
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from experiments.experiment import Experiment, LogLikelihood
from experiments.lib import (
  averages,
  checks,
  command_line,
  datasets,
  training,
)
from experiments.pictures import latent_spaces
from experiments.recipes import (
  latent_bounds,
  latent_variables,
  latents,
  single,
)
from jaxgen.losses import decoders, importance, variational
from jaxgen.training import state, step


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

  objective: Literal["elbo", "iwae", "dreg"] = "elbo"
  """Bound that is maximised: of single samples, or of weighted samples, by its
  own gradient or by the doubly reparameterised one."""
  num_draws: int = 1
  """Number of samples of the posterior per example in training."""
  num_weights: int = 500
  """Number of weighted samples of the reported bound."""
  beta: float = 1.0
  """Weight of the KL in the objective elbo, at least 0."""
  beta_steps: int = 0
  """Number of first steps in which that weight grows linearly from 0."""
  free_bits: float = 0.0
  """KL of each coordinate, in nats, below which the objective elbo does not
  reduce it; 0 for none."""
  likelihood: Literal[
    "bernoulli", "categorical", "logistic_mixture", "gaussian"
  ] = "logistic_mixture"
  """Distribution of each coordinate given the latent."""
  num_components: int = 5
  """Number of components of logistic_mixture, at least 1."""
  std: Literal["learned", "per_coordinate", "calibrated", "fixed"] = "learned"
  """Standard deviation of the gaussian: a parameter, one per coordinate, the
  root mean square error of the batch, or constant."""
  decoder_std: float | None = None
  """First or constant standard deviation, positive; None is the data's."""
  pseudo_inputs: int = 0
  """Number of learned inputs whose mean posterior is the prior (VampPrior); 0
  is the standard normal prior."""
  label_dropout: float = 1.0
  """Fraction of labels replaced by the null label, from 0 to 1; 1 is a model
  without labels."""

  network: Literal["mlp", "conv"] = "mlp"
  """Perceptrons, or convolutions for images."""
  latent: int = 8
  """Latent dimension, at least 1."""
  width: int = 256
  """Number of features of a hidden layer, or of the finest convolution."""
  num_blocks: int = 2
  """Number of hidden layers, or of convolutions, each at half the size."""
  dropout: float = 0.0
  """Dropout probability of the decoder's activations, from 0 to below 1."""
  hidden: float = 0.0
  """Fraction of the coordinates that the encoder sees as 0 in training, from 0
  to below 1: the bound stays one, for a posterior that knows less."""


_SMOKE = dict(latent=2, width=16, num_blocks=1, num_weights=20, num_draws=2)
_SMOKE |= dict(num_steps=20, warmup_steps=5, batch_size=16, log_every=5)
_SMOKE |= dict(save_every=10, samples_every=10)
_DIGITS = dict(
  objective="dreg",
  num_draws=8,
  dropout=0.1,
  hidden=0.2,
  num_steps=4000,
  learning_rate=2e-3,
  clip_norm=5.0,
  ema_decay=(0.998,),
)
PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(run_dir="runs/smoke-vae", objective="dreg", **_SMOKE),
  ),
  "digits": (
    "The 17 levels of the digits: a minute on two CPU cores.",
    Config(run_dir="runs/vae-digits", **_DIGITS),
  ),
  "binary-digits": (
    "The digits in black and white: a minute on two CPU cores.",
    Config(
      run_dir="runs/vae-binary",
      data="binary_digits",
      likelihood="bernoulli",
      **_DIGITS,
    ),
  ),
  "toy": (
    "A distribution on the plane: eight Gaussians, or another set by --data.",
    Config(
      run_dir="runs/vae-toy",
      data="eight_gaussians",
      likelihood="gaussian",
      decoder_std=0.5,
      beta_steps=1000,
      latent=2,
      width=128,
      num_steps=3000,
      batch_size=512,
      learning_rate=2e-3,
      **dict(log_every=50, save_every=1000, samples_every=1000),
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
  model = latent_variables.make(config, data)
  shown = single.shown(config, data)
  log_likelihood = LogLikelihood(
    "lower bound",
    "density" if model.output is None else "levels",
    lambda p, extras, key, x, label: model.log_prob(
      p["model"], extras, key, x, label, config.num_weights
    ),
  )
  return single.experiment_of(
    config,
    data,
    model.init,
    make_turns(config, model, data.num_classes),
    sample=lambda p, extras, key, label: (
      None,
      model.sample(p["model"], extras, key, label),
    ),
    encode=lambda p, extras, x, label: (
      model.posterior(p["model"], x, label).mean
    ),
    decode=lambda p, extras, z, label: model.mean(p["model"], z, label),
    between=latents.straight,
    log_likelihood=log_likelihood,
    extras=model.extras,
    measure=functools.partial(latent_bounds.record, config, model, shown),
    pictures=_pictures(config, model, shown, data.real[1]),
  )


def make_turns(
  config: Config, model: latent_variables.Model, num_classes: int
) -> tuple[step.Turn, ...]:
  """The game of one player, whose loss knows the step and the error so far."""

  def loss_fn(params, extras, key, batch, step):
    examples, labels = batch
    params = params["model"]
    label_key, noise_key, net_key = jax.random.split(key, 3)
    labels = single.drop_labels(config, num_classes, label_key, labels)
    shape = len(examples), config.num_draws, model.latent
    drawn = (
      jax.random.normal(noise_key, shape),
      jax.random.split(net_key, len(examples)),
    )
    log_std, extras = _spread(
      config, model, params, extras, examples, labels, drawn
    )
    ramp = jnp.minimum(1.0, (step + 1) / max(config.beta_steps, 1))
    loss = functools.partial(
      _loss, config, model, params, log_std, config.beta * ramp
    )
    losses, rates = jax.vmap(loss)(examples, labels, *drawn)
    return losses.mean(), ({"kl": rates.mean()}, extras)

  optimizer, rules = training.adam(config), averages.rules(config)
  turn = step.Turn("model", loss_fn, optimizer, averages=rules)
  return (turn._replace(accumulate=config.accumulate),)


def _loss(config, model, params, log_std, beta, x, label, noise, key):
  """(loss, KL) of one example, in nats, for noise [num_draws, Z]."""
  posterior, decoder_key = _encoded(config, model, params, x, label, key)
  fn = model.likelihood(params, log_std, x, label, decoder_key)
  prior = model.prior(params, label)
  if config.objective == "dreg":
    value = importance.doubly_reparameterised(
      fn, posterior, noise, prior_fn=prior
    )
    return -value, variational.kl(posterior).sum()
  if config.objective == "iwae":
    log_w = importance.log_weights(fn, posterior, noise, prior_fn=prior)
    return -importance.iwae(log_w), variational.kl(posterior).sum()

  def one(noise):
    if config.pseudo_inputs:
      terms = variational.sampled_elbo(fn, posterior, noise, prior_fn=prior)
    else:
      terms = variational.elbo(fn, posterior, noise)
    rate = terms.kl.sum()
    if config.free_bits:
      kl = variational.free_bits(terms.kl, config.free_bits)
      terms = terms._replace(kl=kl)
    return variational.loss(terms, beta), rate

  losses, rates = jax.vmap(one)(noise)
  return losses.mean(), rates.mean()


def _encoded(config, model, params, x, label, key):
  """(the posterior of an example of which a part is hidden, another key)."""
  hide_key, decoder_key = jax.random.split(key)
  if config.hidden:
    x = jnp.where(jax.random.bernoulli(hide_key, config.hidden, x.shape), 0, x)
  return model.posterior(params, x, label), decoder_key


def _spread(config, model, params, extras, examples, labels, drawn):
  """The decoder's log_std, and the extras with the error of the batch.

  At the optimal standard deviation the derivative by it is 0, so no gradient
  passes through it.
  """
  if model.output is not None or model.std != "calibrated":
    return model.log_std(params, extras), extras

  def decoded(x, label, noise, key):
    posterior, decoder_key = _encoded(config, model, params, x, label, key)
    z = variational.sample(posterior, noise[0])
    return model.decode(params, z, label, decoder_key)

  noise, keys = drawn
  keys = jax.random.clone(keys)  # the loss has the same dropout
  found = jax.vmap(decoded)(examples, labels, noise, keys)
  log_std = decoders.optimal_log_std(examples, jax.lax.stop_gradient(found))
  share = latent_variables.SHARE
  square = (1 - share) * extras["square"] + share * jnp.exp(2 * log_std)
  return log_std, {"square": square}


def run(config: Config) -> state.State:
  """Trains, samples, measures, draws; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _pictures(config, model, data, labels):

  def reconstructions(path, found):
    examples, own = (None if x is None else x[:48] for x in data.real)
    made = latent_bounds.reconstructed(
      model, found.params["model"], examples, own
    )
    latent_spaces.reconstructions(path, examples, made)

  def plane(path, found):
    means, names = latent_bounds.plane(
      latent_bounds.held_out(config, model, data, found, 1)
    )
    known = None if labels is None else labels[: len(means)]
    latent_spaces.plane(path, means, known, names)

  def traversals(path, found):
    held = latent_bounds.held_out(config, model, data, found, 1)
    units, values = np.argsort(-held.kls)[:10], np.linspace(-2.5, 2.5, 11)
    label = None if data.real[1] is None else data.real[1][0]
    start = held.means[0], label
    rows = latent_bounds.traversed(
      model, found.params["model"], *start, units, values
    )
    names = [f"{i}: {held.kls[i]:.2f} nats" for i in units]
    latent_spaces.traversals(path, rows, values, names)

  common = ("reconstructions.png", reconstructions), ("latents.png", plane)
  images = (("traversals.png", traversals),) if len(data.shape) == 3 else ()
  return (*common, *images)


def _check(config):
  counts = "num_draws num_weights latent width num_blocks"
  single.check(config, *counts.split())
  checks.at_least(config, beta_steps=0, pseudo_inputs=0)
  checks.nonnegative(config, "beta", "free_bits")
  checks.positive(config, "decoder_std")
  checks.fraction(config, "dropout", "hidden")
  weighted = config.beta != 1 or config.beta_steps or config.free_bits
  if config.objective != "elbo" and weighted:
    raise ValueError(
      "objective, beta, beta_steps, free_bits: expected elbo with a weight or"
      f" free bits, got {config.objective}"
    )
  if config.free_bits and config.pseudo_inputs:
    raise ValueError(
      "free_bits, pseudo_inputs: expected one of them, as the prior of"
      " pseudo-inputs has no KL per coordinate, got both"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
