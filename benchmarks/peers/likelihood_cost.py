"""What a log-likelihood costs in forwards of its own network, ours and peers'.

Every row integrates the same velocity, with the same weights, by the midpoint
rule in as many steps, and is divided by as many plain forwards in its own
framework, timed in turn with it.
"""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner
from benchmarks.speed import overhead
from jaxgen import fields, likelihood, samplers, traces

NUM_STEPS = 8
BATCHES = {"MLP": 1024, "U-Net": 64}
CALLS = 2 * NUM_STEPS
# {network: {trace: products with the Jacobian}}
TRACES = {
  "MLP": {"exact": 2, "one probe": 1},
  "U-Net": {"one probe": 1, "8 probes": 8},
}


def installed(*names: str) -> bool:
  """Whether the modules can be imported."""
  return all(importlib.util.find_spec(name) is not None for name in names)


def measure(repeats: int) -> list[dict]:
  """A row for each network, trace and framework."""
  rows = []
  for name, (model, shape) in overhead.networks(num_classes=10).items():
    params = overhead.init(model, shape)
    net = functools.partial(model.apply, params)
    size = BATCHES[name], *shape
    x = np.random.default_rng(0).standard_normal(size, "float32")
    for trace, products in TRACES[name].items():
      pairs = {"jaxgen": ours(net, x, trace, products)}
      if trace != "8 probes" and installed("diffrax"):
        for mode in ("vjp", "jvp"):
          pairs[f"diffrax, {mode}"] = by_diffrax(net, x, trace, mode)
      if trace != "8 probes" and installed("torch", "flow_matching"):
        pairs["flow_matching"] = by_torch(model, params, x, trace)
      calls = [call for pair in pairs.values() for call in pair]
      times = runner.in_turn(calls, repeats).reshape(repeats, -1, 2)
      ratios = np.quantile(times[..., 0] / times[..., 1], runner.QUARTILES, 0)
      seconds = np.median(times[..., 0], 0)
      row = dict(network=name, trace=trace, products=products)
      for who, s, ratio in zip(pairs, seconds, ratios.T, strict=True):
        found = dict(who=who, seconds=float(s), ratio=ratio.tolist())
        rows.append(row | found)
  return rows


def _forwards(net, x):
  forward = jax.jit(jax.vmap(net, (0, None)))
  t = jnp.float32(0.5)

  def run():
    y = x
    for _ in range(CALLS):
      y = forward(y, t)
    jax.block_until_ready(y)

  return run


def ours(net, x, trace, products):
  """(likelihood, forwards) of jaxgen."""
  estimator = traces.exact()
  if trace != "exact":
    estimator = traces.hutchinson(products)
  times = jnp.linspace(0.0, 1.0, NUM_STEPS + 1)

  def one(x, key):
    return likelihood.log_prob(
      likelihood.along(samplers.midpoint(), times),
      fields.from_velocity(net),
      x,
      key,
      prior=likelihood.normal(1.0),
      trace=estimator,
    ).log_prob

  run = jax.jit(jax.vmap(one))
  keys = jax.random.split(jax.random.key(0), len(x))
  x = jnp.asarray(x)
  return lambda: jax.block_until_ready(run(x, keys)), _forwards(net, x)


def by_diffrax(net, x, trace, mode):
  """A continuous normalising flow as in diffrax's example, by vjp or jvp."""
  import diffrax

  def one(x, key):
    probes = jax.random.rademacher(key, (1, *x.shape), x.dtype)
    if trace == "exact":
      probes = jnp.eye(x.size).reshape(x.size, *x.shape)

    def slope(t, state, _):
      f = lambda x: net(x, t)
      if mode == "vjp":
        velocity, pull = jax.vjp(f, state[0])
        times = lambda row: pull(row)[0]
      else:
        velocity, times = jax.linearize(f, state[0])
      return velocity, jnp.sum(jax.vmap(times)(probes) * probes)

    solution = diffrax.diffeqsolve(
      diffrax.ODETerm(slope),
      diffrax.Midpoint(),
      0.0,
      1.0,
      1 / NUM_STEPS,
      (x, jnp.zeros(())),
      stepsize_controller=diffrax.ConstantStepSize(),
    )
    end, integral = solution.ys
    return likelihood.normal(1.0)(end[-1]) + integral[-1]

  run = jax.jit(jax.vmap(one))
  keys = jax.random.split(jax.random.key(0), len(x))
  x = jnp.asarray(x)
  return lambda: jax.block_until_ready(run(x, keys)), _forwards(net, x)


def by_torch(model, params, x, trace):
  """flow_matching's ODESolver.compute_likelihood; one probe or exact."""
  import torch
  from flow_matching import solver

  from benchmarks.peers import torch_networks

  net = torch_networks.twin(model, params, x.shape)
  x = torch.from_numpy(x)
  method = solver.ODESolver(lambda x, t: net(x, t))
  log_p0 = lambda x: -0.5 * (x.flatten(1) ** 2).sum(1)
  exact = trace == "exact"
  settings = dict(step_size=1 / NUM_STEPS, method="midpoint")

  def run():
    method.compute_likelihood(
      x.clone(), log_p0, exact_divergence=exact, **settings
    )

  def forwards():
    with torch.no_grad():
      y, t = x, torch.tensor(0.5)
      for _ in range(CALLS):
        y = net(y, t)

  return run, forwards


def table(rows: list[dict]) -> list[str]:
  """Forwards per evaluation, and milliseconds."""
  lines = []
  for r in rows:
    low, middle, high = r["ratio"]
    spread, time = f"{middle:.2f} ({low:.2f}-{high:.2f})", 1e3 * r["seconds"]
    names = r["network"], r["trace"], r["products"], r["who"]
    lines.append((*names, spread, f"{time:.1f}"))
  head = "network | trace | products | | forwards per evaluation | ms"
  return pages.table(head, lines)
