"""Restoration of data that belong to their source, by a pinned Brownian bridge.

t = t_min is data and t = std the source: the path is paths.edm, of noise t, and
its bridge is pinned at the source (losses.bridges.pinned). In the time t^2 it
is the Brownian bridge of I2SB. The network predicts (x_t - data) / t from x_t,
and with `condition` from the source too (DDBM). A sample restores one of the
held-out sources.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import choices, datasets
from experiments.recipes import networks
from jaxgen import bridge_fields, fields, levels, paths, predictions, samplers
from jaxgen.losses import bridges, flow_matching

LEAST = 1e-2  # t_min relative to t_max
# Solvers of the path's reverse SDE, which is also that of its pinned bridge;
# with `condition` also those of the flow of the bridge, by its velocity.
SOLVERS = ("euler_maruyama", "ancestral", "dpmpp_sde", "dpmpp_2m_sde")
SOLVERS += ("seeds_2",)


def pooled(images: np.ndarray) -> np.ndarray:
  """Images [N, H, W, C] of half the resolution: each 2 x 2 block its mean."""
  number, height, width, channels = images.shape
  blocks = images.reshape(number, height // 2, 2, width // 2, 2, channels)
  return blocks.mean((2, 4)).repeat(2, 1).repeat(2, 2)


def masked(images: np.ndarray) -> np.ndarray:
  """Images [N, H, W, C] whose lower half is grey, 0."""
  found = np.array(images)
  found[:, images.shape[1] // 2 :] = 0.0
  return found


CORRUPTIONS = {"pooled": pooled, "masked": masked}


class Restoration(NamedTuple):
  """A network that restores data, and how it is trained and sampled.

  Attributes:
    net: a Flax module for one example.
    shape: of an example, *D.
    condition: whether the network sees the source.
    path: the path of noise.
    ends, bridge: the path pinned at the source, and its gamma.
    spread: t -> standard deviation of x_t.
    scale: standard deviation of the source.
    solver: of samples.
    times: of samples, from the source to t_min, [N + 1].
    sources: held-out sources, [N, *D].
  """

  net: Any
  shape: tuple[int, ...]
  condition: bool
  path: paths.Path
  ends: paths.Path
  bridge: flow_matching.Bridge
  spread: Callable
  scale: float
  solver: samplers.Solver
  times: Any
  sources: Any

  def init(self, key: jax.Array) -> Any:
    """Initial parameters."""
    *rest, channels = self.shape
    wide = (*rest, 2 * channels) if self.condition else self.shape
    return self.net.init(key, jnp.zeros(wide), jnp.zeros(()))

  def denoiser(self, params: Any, **how: Any) -> Callable:
    """(x_t [*D], t [], source [*D]) -> data [*D]."""

    def denoise_fn(x, t, source):
      seen = x / self.spread(t)
      if self.condition:
        seen = jnp.concatenate([seen, source / self.scale], -1)
      out = self.net.apply(params, seen, self.path.conditioning(t), None, **how)
      return x - t * out[..., : self.shape[-1]]

    return denoise_fn

  def field(self, params: Any, source: jax.Array) -> fields.Field:
    """The field of one source, for the solvers of the reverse SDE."""
    denoise_fn = self.denoiser(params)
    return fields.from_prediction(
      lambda x, t: denoise_fn(x, t, source), self.path, predictions.data
    )

  def restore(self, params: Any, source: jax.Array, key: jax.Array):
    """The states at all times [T, *D], and the restored data [*D].

    The first step of a deterministic solver is stochastic, as the states at the
    source are one point.
    """
    field, times = self.field(params, source), self.times
    if self.solver.name in SOLVERS:
      states = samplers.trajectory(self.solver, field, source, times, key)
      return states, field(states[-1], times[-1]).data
    first_key, key = jax.random.split(key)
    first = samplers.ancestral()
    x = samplers.integrate(first, field, source, times[:2], first_key)
    flow = bridge_fields.from_pinned(
      self.denoiser(params), source, self.ends, self.bridge
    )
    states = samplers.trajectory(self.solver, flow, x, times[1:], key)
    data = field(states[-1], times[-1]).data
    return jnp.concatenate([source[None], states]), data

  def num_calls(self) -> int:
    """Network calls per sample."""
    steps = len(self.times) - 1
    if self.solver.name in SOLVERS:
      return self.solver.num_calls(steps) + 1
    return self.solver.num_calls(steps - 1) + 2

  def sample(self, params: Any, key: jax.Array) -> tuple[Any, Any]:
    """As `restore`, from one of the held-out sources."""
    row_key, solver_key = jax.random.split(key)
    row = jax.random.randint(row_key, (), 0, len(self.sources))
    return self.restore(params, jnp.asarray(self.sources)[row], solver_key)


def partners(config: Any, data: datasets.Data) -> dict[str, tuple]:
  """{split: (data [N, *D], source [N, *D])}, of one order.

  Raises:
    ValueError: the data are not a finite set, the corruption needs images of
      even sides, or the datasets differ in length.
  """
  if not data.is_set:
    raise ValueError(
      "data, method: expected a finite set of examples for paired, got the"
      f" distribution {config.data}"
    )
  examples = {name: data.split(name)[0] for name in datasets.SPLITS}
  if config.source in CORRUPTIONS:
    if len(data.shape) != 3 or data.shape[0] % 2 or data.shape[1] % 2:
      raise ValueError(
        f"source, data: expected images of even sides for {config.source}, got"
        f" {list(data.shape)}"
      )
    corrupt = CORRUPTIONS[config.source]
    return {name: (x, corrupt(x)) for name, x in examples.items()}
  source = datasets.load_source(config, data)
  if not source.is_set:
    raise ValueError(
      f"source, method: expected {', '.join(CORRUPTIONS)} or a finite set of"
      f" examples for paired, got the distribution {config.source}"
    )
  found = {}
  for name, x in examples.items():
    others = source.split(name)[0]
    if len(others) != len(x):
      raise ValueError(
        f"source, data: expected {len(x)} examples to belong to those of"
        f" {config.data} in {name}, got {len(others)} in {config.source}"
      )
    found[name] = x, others
  return found


def make(
  config: Any, data: datasets.Data, pairs: dict[str, tuple]
) -> Restoration:
  """Validates the settings of the network and builds the parts."""
  config, largest = networks.resolve(config, data), config.bridge_std
  path = paths.edm(LEAST * largest, largest)
  ends, bridge = bridges.pinned(path)
  scale = max(float(np.std(pairs["train"][1])), 1e-6)
  spread = lambda t: jnp.sqrt(
    (ends.alpha(t) * data.std + ends.sigma(t) * scale) ** 2 + bridge(t) ** 2
  )
  solver = choices.lookup(choices.SOLVERS, config.solver, "solver")(0.0)
  return Restoration(
    networks.make(config, data),
    data.shape,
    config.condition,
    path,
    ends,
    bridge,
    spread,
    scale,
    solver,
    jnp.linspace(largest, LEAST * largest, config.sample_steps + 1),
    pairs["validation"][1],
  )


def make_loss(model: Restoration) -> Callable:
  """(params, key, batch) -> (loss, metrics), over a batch of pairs."""
  ratios = dict(ratio_min=model.path.t_min, ratio_max=model.path.t_max)

  def loss_fn(params, key, batch):  # data [B, *D], source [B, *D]
    t_key, noise_key, net_key = jax.random.split(key, 3)
    number = len(batch[0])
    t = levels.stratified(t_key, model.path, (number,), **ratios)
    noise = jax.random.normal(noise_key, batch[0].shape)
    net_keys = jax.random.split(net_key, number)

    def loss(data, source, noise, t, key):  # one pair
      return bridges.restoration(
        model.denoiser(params, train=True, rngs={"dropout": key}),
        data,
        source,
        noise,
        t,
        path=model.ends,
        bridge=model.bridge,
        weight=lambda t: 1 / t**2,  # of the network's own output
      )

    return jax.vmap(loss)(*batch, noise, t, net_keys).mean(), {}

  return loss_fn


def restored(model: Restoration, params: Any) -> np.ndarray:
  """The restorations of the held-out sources, [N, *D]."""
  keys = jax.random.split(jax.random.key(0), len(model.sources))
  many = jax.jit(jax.vmap(model.restore, (None, 0, 0)))
  return np.asarray(many(params, model.sources, keys)[1])


def measure(
  model: Restoration, pairs: dict[str, tuple], found: Any
) -> tuple[dict[str, Any], str]:
  """Errors of held-out examples, root mean square over all their entries.

  source: of the source itself.
  mean: of the network at the source, an estimate of E[data | source].
  sample: of a sample of the data given the source.
  """
  data, source = pairs["validation"]
  params = found.params["model"]
  guess = jax.jit(jax.vmap(model.denoiser(params), (0, None, 0)))
  last = jnp.asarray(model.path.t_max)
  made = dict(
    source=source,
    mean=guess(source, last, source),
    sample=restored(model, params),
  )
  error = lambda x: math.sqrt(np.mean((np.asarray(x) - data) ** 2))
  record = {name: error(x) for name, x in made.items()}
  text = ", ".join(f"{name} {value:.4f}" for name, value in record.items())
  record |= dict(number=len(data))
  return record, f"error of {len(data)} held-out examples: {text}"
