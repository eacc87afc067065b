"""Distribution matching distillation: a teacher's samples in one call.

  python -m experiments.edm digits --run-dir runs/edm
  python -m experiments.distribution_matching digits --teacher runs/edm \
    --run-dir runs/matched
  python -m experiments.evaluate runs/matched

A game of two. The model maps noise to a sample in one call; the other player,
the denoiser, learns the denoiser of the model's samples by flow matching, as
the teacher has learned that of the data. At any noise level, the difference of
the two is the direction in which the model's samples should move. Neither
player sees data: only their labels.

Method: Yin et al. 2023, arXiv:2311.18828, and 2024, arXiv:2405.14867 (several
updates of the denoiser for each of the model).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from experiments import settings
from experiments.experiment import Experiment, Times
from experiments.lib import (
  averages,
  checks,
  command_line,
  datasets,
  training,
)
from experiments.recipes import adversarial, diffusion, presets, teachers
from experiments.recipes import flow_maps as recipe
from jaxgen import flow_maps
from jaxgen.losses import distribution_matching
from jaxgen.losses import flow_maps as losses
from jaxgen.training import state, step


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Optimizer,
  settings.Devices,
  settings.Network,
  settings.Noise,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  teacher: str | None = None
  """Run directory of a flow from noise to the same data, on any path;
  required."""
  critic_steps: int = 5
  """Number of updates of the denoiser for each of the model, at least 1."""

  path: Literal["linear", "trigonometric"] = "linear"
  """Path x_t = alpha(t) data + sigma(t) noise."""
  prediction: Literal["velocity"] = "velocity"
  """What the networks predict."""
  weight: Literal["uniform"] = "uniform"
  """Weight of the squared errors: 1."""
  level_mean: float = 0.0
  """Mean of log(sigma / alpha), at which the two denoisers are compared."""


PRESETS = {
  "smoke": (
    "Eight Gaussians in seconds, after edm toy: runs all code.",
    Config(
      run_dir="runs/smoke-matched",
      teacher="runs/toy",
      data="eight_gaussians",
      width=16,
      num_blocks=1,
      **{k: v for k, v in presets.SMOKE.items() if k != "sample_steps"},
    ),
  ),
  "digits": (
    "Class-conditional digits: ten minutes on two CPU cores.",
    Config(run_dir="runs/matched-digits", teacher="runs/edm"),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  if config.teacher is None:
    raise ValueError("teacher: expected the run directory of a flow from noise")
  checks.at_least(config, critic_steps=1)
  if config.label_dropout:
    raise ValueError(
      "label_dropout: expected 0, as the model learns what its teacher knows,"
      f" got {config.label_dropout:g}"
    )
  data = datasets.load(config)
  config = diffusion.resolve(config, data)
  model = recipe.make(config, data)
  # Read when training begins: samples of a run do not need its teacher.
  teacher = functools.cache(lambda: teachers.read(config, data, model.path))
  turns = make_turns(config, model, teacher)

  def batches(key):
    teacher()  # a teacher that does not fit fails before files exist
    return adversarial.make_batches(config, data, turns, key)

  def players(key):
    keys = jax.random.split(key)
    return {"denoiser": model.init(keys[0]), "model": model.init(keys[1])}

  return Experiment(
    config,
    data,
    players,
    turns,
    batches,
    sampled=("model",),
    sample=lambda p, extras, *rest: model.sample(p["model"], *rest),
    times=Times("t", np.asarray(model.times), np.ones(2)),
    learns_from={"teacher": config.teacher},
  )


def make_losses(
  config: Config, model: recipe.Model, teacher: Callable
) -> tuple[Callable, Callable]:
  """The losses of the denoiser and of the model, over a batch."""

  def generate(params, key, label):  # in one call
    u = model.map(params["model"], label)
    high, low = model.times
    return model.finish(flow_maps.jump(u, model.start(key), high, low))

  def drawn(params, keys, t, label):  # (sample, a noisy point of it)
    start_key, noise_key = keys
    sample = generate(params, start_key, label)
    noise = jax.random.normal(noise_key, sample.shape, sample.dtype)
    return sample, recipe.drawn(model.path, sample, noise, t, None)

  def over_batch(loss):
    def loss_fn(params, extras, key, batch, number):
      examples, labels = batch  # only their number and the labels are used
      t_key, noise_key = jax.random.split(key)
      t = model.draw(t_key, len(examples))
      keys = jax.random.split(noise_key, (len(examples), 2))
      one = functools.partial(loss, params)
      return jax.vmap(one)(keys, t, labels).mean(), ({}, extras)

    return loss_fn

  def denoiser_loss(params, keys, t, label):
    _, at = drawn(params, keys, t, label)
    x_t, velocity = jax.lax.stop_gradient((at.x_t, at.velocity))
    u = model.map(params["denoiser"], label)
    return losses.regression(losses.Problem(u(x_t, t, t), velocity))

  def model_loss(params, keys, t, label):
    sample, at = drawn(params, keys, t, label)
    x_t = jax.lax.stop_gradient(at.x_t)
    field = model.field(params["denoiser"], label)
    real, made = teacher()(label)(x_t, t).data, field(x_t, t).data
    return losses.regression(distribution_matching.problem(sample, real, made))

  return over_batch(denoiser_loss), over_batch(model_loss)


def make_turns(
  config: Config, model: recipe.Model, teacher: Callable
) -> tuple[step.Turn, ...]:
  """The denoiser's turn, then the model's."""
  denoiser_loss, model_loss = make_losses(config, model, teacher)
  inner = config.critic_steps
  longer = dataclasses.replace(
    config,
    num_steps=inner * config.num_steps,
    warmup_steps=inner * config.warmup_steps,
  )
  rules: Any = averages.rules(config)
  return (
    step.Turn("denoiser", denoiser_loss, training.adam(longer), inner),
    step.Turn("model", model_loss, training.adam(config), averages=rules),
  )


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
