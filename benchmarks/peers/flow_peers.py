"""The flows of other libraries, with the sizes of benchmarks/speed/flows.py."""

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sizes(NamedTuple):
  """Dimension, layers, width and hidden layers of networks, bins, points."""

  dim: int
  layers: int
  width: int
  depth: int
  bins: int
  batch: int


def by_flowjax(kind: str, sizes: Sizes) -> dict:
  """The same by flowjax."""
  import equinox
  from flowjax import bijections, distributions, flows

  make = flows.coupling_flow
  if kind == "masked":
    make = flows.masked_autoregressive_flow
  flow = make(
    jax.random.key(0),
    base_dist=distributions.Normal(jnp.zeros(sizes.dim)),
    transformer=bijections.RationalQuadraticSpline(
      knots=sizes.bins, interval=5
    ),
    flow_layers=sizes.layers,
    nn_width=sizes.width,
    nn_depth=sizes.depth,
  )
  x = jax.random.normal(jax.random.key(2), (sizes.batch, sizes.dim))
  log_prob = equinox.filter_jit(lambda flow, x: flow.log_prob(x))
  sample = equinox.filter_jit(
    lambda flow, key: flow.sample(key, (sizes.batch,))
  )
  key = jax.random.key(3)
  return {
    "log_prob": lambda: log_prob(flow, x),
    "sample": lambda: sample(flow, key),
  }


def by_zuko(kind: str, sizes: Sizes) -> dict:
  """The same by zuko, eager, without gradients, on as many threads as cores."""
  import torch
  import zuko

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  flow = zuko.flows.NSF(
    sizes.dim,
    transforms=sizes.layers,
    hidden_features=(sizes.width,) * sizes.depth,
    bins=sizes.bins,
    passes=2 if kind == "coupling" else None,
  )
  x = torch.randn(sizes.batch, sizes.dim)

  def without_gradients(fn):
    def run():
      with torch.no_grad():
        return fn().numpy()

    return run

  return {
    "log_prob": without_gradients(lambda: flow().log_prob(x)),
    "sample": without_gradients(lambda: flow().sample((sizes.batch,))),
  }
