"""The parts of a normalizing flow, from the settings of its script."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import checks, datasets
from jaxgen import (
  bijectors,
  dequantisation,
  elementwise,
  fields,
  guidance,
  linear_maps,
  outputs,
  paths,
)
from jaxgen.losses import normalizing_flow
from jaxgen.models import coupling_flow, masked_flow, tarflow


class Flow(NamedTuple):
  """The network, the fixed map before it and the noise on the data.

  Attributes:
    init: key -> parameters.
    net: a Flax module, x -> (latent, log det), with methods inverse and states.
    base: the fixed bijector from data to the network's input.
    noised: (parameters, key, example) -> dequantisation.Draw.
    of: what has the likelihood, for tables.
    finish: (field of noised data, x) -> a sample.
    guidance: weight of guidance in samples.
  """

  init: Callable
  net: Any
  base: bijectors.Bijector
  noised: Callable
  of: str
  finish: Callable
  guidance: float

  def forward(self, params: Any, x: Any, label: Any, **how: Any) -> Any:
    """The latent of noised data and log |det|."""
    x, log_det = self.base.forward(x)
    y, more = self.net.apply(params, x, label, **how)
    return y, log_det + more

  def log_prob(self, params: Any, x: Any, label: Any) -> Any:
    """The log-density of noised data, in nats."""
    forward = lambda x: self.forward(params, x, label)
    return normalizing_flow.log_prob(forward, x)

  def states(self, params: Any, latent: Any, label: Any) -> Any:
    """The latent and what the inverse of each block makes of it."""
    how = {} if self.guidance == 1 else dict(guidance=self.guidance)
    return self.net.apply(params, latent, label, method="states", **how)

  def decode(self, params: Any, latent: Any, label: Any) -> Any:
    """The example of a latent, without noise."""
    return self.end(params, self.states(params, latent, label)[-1], label)

  def end(self, params: Any, last: Any, label: Any) -> Any:
    """The example of the last state, without noise."""
    field, null = (
      fields.from_log_density(lambda x, y=y: self.log_prob(params, x, y))
      for y in (label, None)
    )
    guided = guidance.classifier_free(field, null, self.guidance)
    return self.finish(guided, self.base.inverse(last)[0])


def make(config: Any, data: datasets.Data) -> Flow:
  """The network and what is fixed.

  Raises:
    ValueError: the settings do not fit together or to the data.
  """
  levels = data.levels
  net = make_network(config, data)
  train = data.split("train")[0]
  if config.noise or levels is None:
    mean, std = jnp.float32(train.mean()), math.hypot(data.std, config.noise)
    checks.varied(config, std)
    base = linear_maps.scale_and_shift(-math.log(std), -mean / std)
  else:
    base = bijectors.of_functions(*elementwise.histogram(_logs(train, levels)))
  finish = functools.partial(_finish, config.noise, levels)
  init, noised, of = _noise(config, data, net)
  return Flow(init, net, base, noised, of, finish, config.guidance)


def _noise(config, data, net):
  """(init, noised, of) of Flow."""
  levels = data.levels
  init = lambda key: net.init(key, jnp.zeros(data.shape))
  fixed = lambda draw: lambda params, key, x: draw(key, x)
  if config.dequantisation == "learned":
    if config.noise or levels is None:
      raise ValueError(
        "dequantisation, noise, data: expected uniform with noise, and for data"
        " without levels, got learned"
      )
    return *_learned(config, data, init), "levels by learned dequantisation"
  if levels is None:
    of = f"density, noise {config.noise}" if config.noise else "density"
    return init, fixed(functools.partial(_with_noise, config.noise)), of
  if config.noise:
    path = paths.edm()  # x_t = data + t noise
    draw = lambda key, x: dequantisation.gaussian(
      key, x, levels, path, config.noise
    )
    return init, fixed(draw), "levels by Gaussian dequantisation"
  draw = lambda key, x: dequantisation.uniform(key, x, levels)
  return init, fixed(draw), "levels by uniform dequantisation"


def _learned(config, data, init):
  """(init, noised) of couplings that are given the levels; their parameters are
  the collection "noise" beside those of the network.
  """
  net = coupling_flow.CouplingFlow(
    data.shape,
    context_size=math.prod(data.shape),
    num_blocks=config.noise_blocks,
    width=config.width,
    depth=config.depth,
    num_bins=config.num_bins,
  )

  def both(key):
    first, second = jax.random.split(key)
    zeros = jnp.zeros(data.shape)
    more = net.init(second, zeros, context=zeros)
    return {**init(first), "noise": more["params"]}

  def noised(params, key, x):
    own = {"params": params["noise"]}
    flow = lambda z: net.apply(own, z, context=x)
    return dequantisation.learned(key, x, data.levels, flow)

  return both, noised


def make_network(config: Any, data: datasets.Data) -> Any:
  """The invertible network.

  Raises:
    ValueError: the settings do not fit together or to the data.
  """
  shared = dict(
    num_classes=data.num_classes,
    num_blocks=config.num_blocks,
    dropout=config.dropout,
  )
  if config.model != "tarflow" and config.guidance != 1:
    raise ValueError(
      f"guidance, model: expected 1 for {config.model}, got {config.guidance}"
    )
  if config.model == "masked":
    features = (config.width,) * config.depth
    return masked_flow.MaskedFlow(
      data.shape, features=features, num_bins=config.num_bins, **shared
    )
  shared |= dict(width=config.width, depth=config.depth)
  if config.model == "coupling":
    return coupling_flow.CouplingFlow(
      data.shape, num_bins=config.num_bins, **shared
    )
  if len(data.shape) != 3:
    raise ValueError(
      "model, data: expected coupling or masked for points, got tarflow for"
      f" {config.data}"
    )
  net = tarflow.TarFlow(
    data.shape,
    patch=config.patch,
    num_heads=config.num_heads,
    sweeps=config.sweeps,
    **shared,
  )
  with checks.naming(config, side="patch", shape="data"):
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(data.shape))
    length = (data.shape[0] // config.patch) * (data.shape[1] // config.patch)
    if config.sweeps and length % config.sweeps:
      raise ValueError(
        f"sweeps: expected a divisor of {length} patches, got {config.sweeps}"
      )
  return net


def _logs(train, levels):
  """Log frequencies of the levels of each pixel [*D, L], each counted once
  more, so that none is 0.
  """
  found = np.asarray(outputs.to_levels(train, levels))
  counts = (found[..., None] == np.arange(levels)).sum(0) + 1.0
  return jnp.asarray(np.log(counts / counts.sum(-1, keepdims=True)), "float32")


def _with_noise(noise, key, x):
  z = jax.random.normal(key, x.shape, x.dtype)
  return dequantisation.Draw(x + noise * z, jnp.zeros((), x.dtype))


def _finish(noise, levels, field, x):
  """Removes the noise: E(data | x) = x + noise^2 score(x); or takes the level
  in whose bin x lies.
  """
  if noise:
    return x + noise**2 * field(x, jnp.zeros(())).score
  if levels is None:
    return x
  found = outputs.to_levels(x, levels)  # the outer bins are a little wider
  return outputs.to_values(jnp.clip(found, 0, levels - 1), levels)
