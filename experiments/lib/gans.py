"""The parts of experiments.gan: its method, its batches and its pictures."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.lib import datasets, figures, report, settings
from experiments.lib import run as runs
from jaxgen.models import gan

plt = figures.plt
COUNTS = (
  "num_steps",
  "batch_size",
  "critic_steps",
  "penalty_every",
  "latent",
  "width",
  "num_blocks",
  "log_every",
  "save_every",
  "snapshot_every",
  "samples_every",
  "keep",
)
POSITIVE = ("learning_rate", "clip", "penalty_weight", "penalty_last")
WARMUP = 100  # steps


class Method(NamedTuple):
  """A generator, which samples by one call, and its discriminator.

  Attributes:
    generator, discriminator: Flax modules of one example.
    latent: numbers that an example is made of.
    shape: of an example, *D.
    num_classes: of the labels; 0 where there are none.
  """

  generator: Any
  discriminator: Any
  latent: int
  shape: tuple[int, ...]
  num_classes: int
  num_calls = 1
  player = "generator"
  from_noise = True

  def players(self, key: jax.Array) -> dict[str, Any]:
    """{player: parameters} that training starts from."""
    generator_key, discriminator_key = jax.random.split(key)
    label = 0 if self.num_classes else None
    z, x = jnp.zeros(self.latent), jnp.zeros(self.shape)
    return {
      "discriminator": self.discriminator.init(discriminator_key, x, label),
      "generator": self.generator.init(generator_key, z, label),
    }

  def generate(self, params: Any, key: jax.Array, label: Any) -> jax.Array:
    """One example of a key, [*D]."""
    z = jax.random.normal(key, (self.latent,))
    return self.generator.apply(params, z, label)

  def sample(self, params: Any, key: jax.Array, label: Any) -> tuple[Any, Any]:
    """The example as the one state there is, [1, *D], and as data, [*D]."""
    x = self.generate(params, key, label)
    return x[None], x


def make_method(config: Any, data: datasets.Data) -> Method:
  """What the configuration says, as objects.

  Raises:
    ValueError: settings that cannot be, or no such name.
  """
  check(config, data)
  features = (config.width,) * config.num_blocks
  return Method(
    gan.Generator(
      data.shape, features, data.num_classes, bounded=len(data.shape) == 3
    ),
    gan.Discriminator(features, data.num_classes),
    config.latent,
    data.shape,
    data.num_classes,
  )


def check(config: Any, data: datasets.Data) -> None:
  """Refuses settings that cannot be.

  Raises:
    ValueError: which, and why.
  """
  runs.at_least(config, **dict.fromkeys(COUNTS, 1))
  settings.known(config)
  settings.positive(config, *POSITIVE)
  settings.share(config, "adam_b1", "adam_b2", "last_rate")
  if not 0 <= config.shift <= 1:
    raise ValueError(f"shift: expected 0 to 1, got {config.shift}")
  if config.shift and len(data.shape) != 3:
    raise ValueError(
      f"shift, data: expected 0 for points, got {config.shift} for"
      f" {config.data}"
    )


def make_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
  """Adam along a cosine of so many steps."""
  rate = config.learning_rate
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, rate, min(WARMUP, steps // 10), steps, config.last_rate * rate
  )
  return optax.adam(schedule, config.adam_b1, config.adam_b2)


def shifted(key: jax.Array, x: jax.Array, share: float) -> jax.Array:
  """The image [H, W, C] moved by up to a pixel each way, with this probability.

  What comes in is -1. Differentiable: both players see the same law of it.
  """
  move_key, share_key = jax.random.split(key)
  moved = jax.random.bernoulli(share_key, share)
  first = 1 + moved * jax.random.randint(move_key, (2,), -1, 2)
  wide = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-1.0)
  return jax.lax.dynamic_slice(wide, (first[0], first[1], 0), x.shape)


def batches(
  config: Any, data: datasets.Data, key: jax.Array
) -> Callable[[int], dict[str, Any]]:
  """step -> {player: (examples, labels)}; the discriminator's with the weight
  of its penalty [] at the step, 0 where it is left out.
  """
  keys = dict(
    zip(("discriminator", "generator"), jax.random.split(key), strict=True)
  )
  inner = config.critic_steps
  many = data.batches(keys["discriminator"], inner * config.batch_size)
  once = data.batches(keys["generator"], config.batch_size)
  last = config.penalty_last or config.penalty_weight
  lead = () if inner == 1 else (inner,)

  def weight(number):
    if config.penalty == "none" or (number + 1) % config.penalty_every:
      return 0.0
    share = min(1.0, 2 * number / config.num_steps)
    now = config.penalty_weight * (last / config.penalty_weight) ** share
    return now * config.penalty_every

  def batch_fn(number):
    shaped = lambda x: (
      None if x is None else np.reshape(x, (*lead, -1, *np.shape(x)[1:]))
    )
    examples, labels = map(shaped, many(number))
    weights = np.full(lead, weight(number), np.float32)
    return {
      "discriminator": (examples, labels, weights),
      "generator": once(number),
    }

  return batch_fn


def pictures(
  run_dir: pathlib.Path, draw: Callable, method: Any, data: datasets.Data
) -> list[str]:
  """samples.png; of a mixture on the plane also modes.png: what each mode gets,
  and where the discriminator would have more.
  """
  drawn = draw()
  if len(data.shape) == 3:
    report.image_samples(run_dir, drawn.samples, data)
    return ["samples.png"]
  figures.point_samples(run_dir / "samples.png", drawn.samples, data.real[0])
  if data.law is None or data.law.mixture is None:
    return ["samples.png"]
  params = drawn.players["discriminator"]
  critic_fn = lambda x: method.discriminator.apply(params, x)
  path = run_dir / "modes.png"
  _modes(path, critic_fn, drawn.samples, data.law.mixture)
  return ["samples.png", path.name]


def mode_shares(points: np.ndarray, mixture: Any) -> np.ndarray:
  """The share of the points that lies within 3 std of each mode, [K].

  Args:
    points: [N, 2].
    mixture: of isotropic Gaussians, means [K, 2] and stds [K].
  """
  apart = np.linalg.norm(points[:, None] - mixture.means, axis=-1)
  nearest = apart.argmin(1)
  good = apart.min(1) < 3 * np.asarray(mixture.stds)[nearest]
  counts = np.bincount(nearest[good], minlength=len(mixture.means))
  return counts / len(points)


def _modes(path, critic_fn, points, mixture):
  shares = mode_shares(points, mixture)
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.8), layout="constrained", width_ratios=(1.25, 1)
  )
  limit = 1.35 * np.abs(mixture.means).max()
  side = np.linspace(-limit, limit, 121, dtype=np.float32)
  grid = np.stack(np.meshgrid(side, side), -1)
  values = jax.jit(jax.vmap(jax.vmap(critic_fn)))(grid)
  filled = left.contourf(side, side, values, 24, cmap="Blues")
  figure.colorbar(filled, ax=left, label="discriminator")
  arrows = jax.jit(jax.vmap(jax.vmap(jax.grad(critic_fn))))(grid[6::12, 6::12])
  at = side[6::12]
  left.quiver(at, at, arrows[..., 0], arrows[..., 1], color="0.35", width=0.003)
  left.scatter(*points.T, s=3, color="C1", linewidths=0, label="generated")
  left.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
  left.legend(loc="upper right", fontsize=8)
  right.bar(np.arange(len(shares)), shares, color="C1")
  for n, weight in enumerate(np.asarray(mixture.weights)):
    right.hlines(weight, n - 0.4, n + 0.4, color="0.2")
  right.set(xlabel="mode", ylabel="share within 3 std; line: its weight")
  right.set_title(f"{shares.sum():.3f} of {len(points)} within 3 std of a mode")
  figures.save(figure, path)
