"""EDM-style diffusion: one network, any path, prediction, weight and solver.

  python -m experiments.edm digits --run-dir runs/mine
  python -m experiments.edm digits --run-dir runs/vp --path vp
  python -m experiments.edm toy --run-dir runs/toy --data moons

DDPM, DDIM, v-prediction, score matching and flow matching are flags of the
same script: see README.md for their command lines and figures.

Method: Karras et al. 2022, arXiv:2206.00364.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import averages, build, edm_settings, report, training
from experiments.lib import run as runs
from jaxgen import predictions
from jaxgen.losses import denoising
from jaxgen.training import state, step

MODULE = "experiments.edm"


Config = edm_settings.Config
PRESETS = edm_settings.PRESETS


def make_loss(config: Config, method: build.Method, num_classes: int):
  """(params, key, batch) -> (loss, metrics), over a batch."""

  def loss_fn(params, key, batch):
    examples, labels = batch
    t_key, noise_key, label_key, net_key = jax.random.split(key, 4)
    t = method.draw(t_key, (len(examples),))
    noise = jax.random.normal(noise_key, examples.shape)
    if labels is not None and config.label_dropout:
      drop = jax.random.bernoulli(label_key, config.label_dropout, labels.shape)
      labels = jnp.where(drop, num_classes, labels)
    net_keys = jax.random.split(net_key, len(examples))

    def loss(data, label, noise, t, key):
      net = lambda x, c: method.model.apply(
        params, x, c, label, train=True, rngs={"dropout": key}
      )
      return denoising.denoising(
        predictions.preconditioned(net, method.path, config.sigma_data)[0],
        data,
        noise,
        t,
        path=method.path,
        prediction=method.prediction,
        weight=method.weight,
      )

    return jax.vmap(loss)(examples, labels, noise, t, net_keys).mean(), {}

  return loss_fn


def make_turns(config: Config, method: build.Method, num_classes: int):
  """The game: one player, with its loss, optimizer and averages."""
  return step.single(
    make_loss(config, method, num_classes),
    training.make_optimizer(config),
    averages.rules(config),
  )


def run(config: Config) -> state.State:
  """Trains, samples and draws; resumes the run directory if it has begun."""
  # Data, model and game.
  data = build.load_data(config)
  config = build.resolve(config, data)
  method = build.method(config, data)
  keys = jax.random.split(jax.random.key(config.seed), 4)
  init_key, data_key, run_key, sample_key = keys
  turns = make_turns(config, method, data.num_classes)
  batches = data.batches(data_key, config.batch_size)

  def start():
    params = method.model.init(init_key, jnp.zeros(data.shape), jnp.zeros(()))
    return state.init(run_key, {"model": params}, turns)

  training.check(config, start)

  # Training, with a small sheet of samples now and then.
  sampler = build.make_sampler(config, method, data.shape)
  sample = lambda now: functools.partial(sampler, averages.sampled(config, now))

  def save_sheet(path, now):
    report.sheet(path, sample(now), data, sample_key)

  batch_fn = lambda number: {"model": batches(number)}
  with runs.open_directory(config.run_dir, config, MODULE) as run_dir:
    now = training.train(run_dir, config, start, turns, batch_fn, save_sheet)

    # Samples and pictures.
    path, times = method.sample_path, method.times
    spread = predictions.input_scale(path, times, config.sigma_data)
    report.pictures(
      run_dir,
      sample(now),
      data,
      sample_key,
      scales=np.asarray(config.sigma_data / spread),
      ratios=np.asarray(path.ratio(times)),
    )
  print(f"{run_dir}: samples.png trajectory.png curves.png", file=sys.stderr)
  return now


if __name__ == "__main__":
  runs.main(MODULE, PRESETS, run)
