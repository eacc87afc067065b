"""Generators without an adversary: GLANN, IMLE and its rejection form.

  python -m experiments.glann digits --run-dir runs/glann
  python -m experiments.glann imle --run-dir runs/imle
  python -m experiments.glann rs-imle --run-dir runs/rs-imle
  python -m experiments.evaluate runs/glann

GLANN has two stages in one run. In the first --glo-steps steps, GLO learns a
generator and a latent of norm one for each training example, by the squared
error. Then both stay, and IMLE learns a map from noise to these latents: each
latent takes the nearest of a pool of mapped noise. IMLE alone generates from
noise, and each example takes the nearest of a pool of samples; with --epsilon,
samples nearer than that to some example are not taken. Distances are those of
pixels, or of pixels and the features of a classifier (--distance features),
which alone uses labels. A sample is one call of the generator, and of the
map. The latents of training examples are no encoder, so there is none.

The training examples are those of the training split; for a distribution,
4096 fixed samples. result.json has the error of the examples decoded from their
latents, and the shares of the classes, by the metrics' classifier, among
samples.

Methods: Bojanowski et al. 2018, arXiv:1707.05776 (GLO); Li and Malik 2018,
arXiv:1809.09087 (IMLE); Hoshen et al. 2019, arXiv:1812.08985 (GLANN); Vashist
et al. 2024, arXiv:2409.17439 (rejection).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import (
  averages,
  checks,
  command_line,
  datasets,
  quality,
  samples,
  training,
)
from experiments.pictures import latent_spaces
from experiments.recipes import latent_neighbours, perceptual
from jaxgen.data import loaders
from jaxgen.losses import latent_nearest
from jaxgen.models import gan
from jaxgen.training import games, state, step

NUM_SHOWN = 48  # examples of a picture
NUM_CLASSIFIED = 500  # samples whose classes are counted


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Devices,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  method: Literal["glann", "imle"] = "glann"
  """Latents of the examples and a map to them, or IMLE of the examples."""
  glo_steps: int = 3000
  """Number of first steps in which glann learns generator and latents; the map
  learns in the others, so it is below num_steps."""
  pool: int = 1024
  """Number of noise samples per step, of which every example or latent takes
  the nearest, at least 1."""
  distance: Literal["pixels", "features"] = "pixels"
  """Distance of examples: of their pixels, or of these and the features of a
  classifier that is not the metrics'."""
  epsilon: float = 0.0
  """Distance to an example below which samples are not taken, for imle, at
  least 0; 0 is none."""
  chunk: int = 256
  """Number of points whose neighbours are searched together, which limits the
  memory, at least 1."""

  latent: int = 16
  """Dimension of the latents of glann, at least 1."""
  noise: int = 16
  """Dimension of the noise, at least 1."""
  width: int = 256
  """Number of features per layer of generator and map, at least 1."""
  num_blocks: int = 2
  """Number of hidden layers of both, at least 1."""

  num_steps: int = 6000
  """Number of steps, at least 1."""
  batch_size: int = 128
  """Number of examples per step, at least 1."""
  learning_rate: float = 1e-3
  """Peak learning rate of Adam, positive; in each stage a warm-up of at most
  100 steps and a cosine to zero."""
  latent_rate: float = 1e-2
  """The same for the latents, positive."""
  adam_b1: float = 0.5
  """Decay of Adam's first moment, from 0 to below 1."""
  adam_b2: float = 0.999
  """Decay of Adam's second moment, from 0 to below 1."""
  ema_decay: tuple[float, ...] = (0.99,)
  """Decays of the averages, each from 0 to 1; the first average is sampled."""
  log_every: int = 50
  """Number of steps between records of metrics.jsonl."""
  save_every: int = 1000
  """Number of steps between checkpoints."""
  samples_every: int = 1000
  """Number of steps between small sheets of samples."""


_IMLE = dict(method="imle", glo_steps=0)
PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(
      run_dir="runs/smoke-glann",
      latent=4,
      noise=4,
      width=16,
      num_blocks=1,
      pool=32,
      glo_steps=10,
      num_steps=20,
      batch_size=16,
      log_every=5,
      save_every=10,
      samples_every=10,
    ),
  ),
  "digits": (
    "GLANN on the digits: minutes on two CPU cores.",
    Config(run_dir="runs/glann"),
  ),
  "imle": (
    "IMLE alone on the digits: minutes on two CPU cores.",
    Config(run_dir="runs/imle", **_IMLE),
  ),
  "rs-imle": (
    "Its rejection form: samples near to an example are not taken.",
    Config(run_dir="runs/rs-imle", epsilon=1.0, **_IMLE),
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
  data = samples.without_labels(data)
  examples = np.asarray(data.split("train")[0])
  features = (config.width,) * config.num_blocks
  shape, bounded = data.shape, len(data.shape) == 3
  to_latents = gan.Generator((config.latent,), features)
  model = latent_neighbours.Model(
    gan.Generator(shape, features, bounded=bounded),
    to_latents if config.method == "glann" else None,
    config.noise,
    config.latent,
    len(examples),
  )
  turns = make_turns(config, model, _features(config, data))
  pictures: tuple = ()
  if model.map is not None:
    plot = functools.partial(_reconstructions, model, examples)
    pictures = (("reconstructions.png", plot),)
  return Experiment(
    config,
    data,
    model.players,
    turns,
    functools.partial(make_batches, config, examples, turns),
    sampled=tuple(turn.player for turn in turns),
    sample=lambda params, extras, key, label: (
      None,
      model.generate(params, jax.random.normal(key, (config.noise,))),
    ),
    num_calls=len(turns),
    pictures=pictures,
    measure=functools.partial(_measure, config, model, data, examples),
  )


def make_turns(
  config: Config,
  model: latent_neighbours.Model,
  features_fn: Callable = lambda x: x,
) -> tuple[step.Turn, ...]:
  """GLO's turn, then that of the map; one turn for IMLE alone.

  Outside a turn's stage its learning rate is 0 and its loss is not computed.
  """
  rules = averages.rules(config)
  learn = functools.partial(
    latent_neighbours.adam, b1=config.adam_b1, b2=config.adam_b2
  )
  rate, glo = config.learning_rate, (0, config.glo_steps)
  known = config, model, features_fn
  if model.map is None:
    loss = functools.partial(_imle_loss, *known)
    rule = learn(rate, (0, config.num_steps))
    return (step.Turn("generator", loss, rule, averages=rules),)
  own = dict(net=learn(rate, glo), latents=learn(config.latent_rate, glo))
  both = optax.multi_transform(own, {"net": "net", "latents": "latents"})
  later = learn(rate, (config.glo_steps, config.num_steps))
  losses = [functools.partial(fn, *known) for fn in (_glo_loss, _map_loss)]
  project = latent_neighbours.project
  return (
    step.Turn("generator", losses[0], both, project=project, averages=rules),
    step.Turn("map", losses[1], later, averages=rules),
  )


def _imle_loss(config, model, features_fn, params, extras, key, batch, step):
  generate = functools.partial(model.generate, params)
  how = dict(features_fn=features_fn, epsilon=config.epsilon)
  return _imle(config, key, generate, batch[0], **how), ({}, extras)


def _glo_loss(config, model, features_fn, params, extras, key, batch, step):
  examples, rows = batch

  def loss():
    decode = functools.partial(model.decode, params)
    one = functools.partial(
      latent_nearest.reconstruction, decode, features_fn=features_fn
    )
    latents = params["generator"]["latents"][rows]
    return jax.vmap(one)(latents, examples).mean()

  stage = step < config.glo_steps
  return latent_neighbours.during(stage, loss), ({}, extras)


def _map_loss(config, model, features_fn, params, extras, key, batch, step):
  def loss():
    to_latent = functools.partial(model.latent_of, params)
    latents = params["generator"]["latents"][batch[1]]
    return _imle(config, key, to_latent, latents)

  stage = step >= config.glo_steps
  return latent_neighbours.during(stage, loss), ({}, extras)


def _imle(config, key, generate, data, **how):
  noise = jax.random.normal(key, (config.pool, config.noise))
  return latent_nearest.imle(generate, data, noise, chunk=config.chunk, **how)


def make_batches(
  config: Config, examples: np.ndarray, turns: tuple, key: jax.Array
) -> Callable[[int], dict[str, Any]]:
  """step -> {player: (examples, their rows in the training split)}."""
  sets = examples, np.arange(len(examples), dtype=np.int32)
  parts = {
    turn.player: loaders.batches(sets, k, config.batch_size)
    for turn, k in zip(turns, jax.random.split(key, len(turns)), strict=True)
  }
  by_step = lambda turn, number: games.by_inner_step(
    turn, parts[turn.player](number)
  )
  return lambda number: {turn.player: by_step(turn, number) for turn in turns}


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _features(config, data):
  """The features whose distances are minimised."""
  if config.distance == "pixels":
    return lambda x: x
  if data.classified is None:
    raise ValueError(
      "distance, data: expected images with labels for features, got"
      f" {config.data}"
    )
  return perceptual.features_of(*data.classified())


def _decoded(model, params, number):
  """The first training examples, decoded from their latents."""
  latents = params["generator"]["latents"][:number]
  return jax.jit(jax.vmap(functools.partial(model.decode, params)))(latents)


def _reconstructions(model, examples, path, found):
  shown = examples[:NUM_SHOWN]
  made = np.asarray(_decoded(model, found.params, len(shown)))
  title = "training examples from their latents"
  latent_spaces.reconstructions(path, shown, made, "decoded", title)


def _measure(config, model, data, examples, found):
  """The error of the latents' examples, and the shares of the classes."""
  record: dict[str, Any] = {}
  if model.map is not None:
    made = _decoded(model, found.params, len(examples))
    error = float(np.sqrt(np.mean((np.asarray(made) - examples) ** 2)))
    record["rms_error"] = error
  if data.classified is not None:
    keys = jax.random.split(jax.random.key(config.seed), NUM_CLASSIFIED)
    draw = lambda key: model.generate(
      found.params, jax.random.normal(key, (config.noise,))
    )
    made = np.asarray(jax.jit(jax.vmap(draw))(keys))
    predict = quality.reference(data, "validation").predict
    counts = np.bincount(predict(made), minlength=10)
    record["classes"] = (counts / counts.sum()).tolist()
  return record, "\n".join(f"{name}: {value}" for name, value in record.items())


def _check(config):
  counts = "num_steps batch_size pool chunk latent noise width num_blocks"
  counts += " log_every save_every snapshot_every samples_every keep"
  checks.at_least(config, **dict.fromkeys(counts.split(), 1))
  checks.known(config)
  checks.positive(config, "learning_rate", "latent_rate")
  checks.fraction(config, "adam_b1", "adam_b2")
  checks.nonnegative(config, "epsilon")
  if config.flip:
    raise ValueError("flip: expected images that stay as they are, got True")
  first, glann = config.glo_steps, config.method == "glann"
  if not (1 <= first < config.num_steps if glann else first == 0):
    raise ValueError(
      "glo_steps, num_steps, method: expected 1 to below num_steps for glann"
      f" and 0 for imle, got {first} of {config.num_steps} for {config.method}"
    )
  if glann and config.epsilon:
    raise ValueError(
      f"epsilon, method: expected 0 for glann, got {config.epsilon}"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
