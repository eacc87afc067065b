"""What a log-likelihood costs in forwards of its own network, ours and peers'.

Every row integrates the same velocity, with the same weights, by the midpoint
rule in as many steps, and is divided by as many plain forwards in its own
framework, timed in turn with it.
"""

import functools
import importlib.util
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import overhead
from jaxgen import fields, likelihood, samplers, traces
from jaxgen.models import mlp, unet

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
  networks = {
    "MLP": (mlp.MLP((128, 128, 128)), (2,)),
    "U-Net": (unet.UNet(attention=(4,), num_classes=10), (8, 8, 1)),
  }
  for name, (model, shape) in networks.items():
    params = overhead.init(model, shape)
    net = functools.partial(model.apply, params)
    x = np.random.default_rng(0).standard_normal(
      (BATCHES[name], *shape), "float32"
    )
    for trace, products in TRACES[name].items():
      pairs = {"jaxgen": ours(net, x, trace, products)}
      if trace != "8 probes" and installed("diffrax"):
        for mode in ("vjp", "jvp"):
          pairs[f"diffrax, {mode}"] = by_diffrax(net, x, trace, mode)
      if trace != "8 probes" and installed("torch", "flow_matching"):
        pairs["flow_matching"] = by_torch(model, params, x, trace)
      for who, seconds in timed(pairs, repeats).items():
        rows.append(
          dict(
            network=name,
            trace=trace,
            products=products,
            who=who,
            seconds=float(np.median(seconds[:, 0])),
            ratio=np.quantile(
              seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75]
            ).tolist(),
          )
        )
  return rows


def timed(pairs, repeats):
  """{who: seconds of (likelihood, forwards), [repeats, 2]}, all in turn."""
  for pair in pairs.values():
    for fn in pair:
      fn()
  seconds = {who: np.zeros((repeats, 2)) for who in pairs}
  for i in range(repeats):
    for who, pair in pairs.items():
      for j in (0, 1) if i % 2 else (1, 0):
        begun = time.perf_counter()
        pair[j]()
        seconds[who][i, j] = time.perf_counter() - begun
  return seconds


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

  from benchmarks import torch_peers

  if x.ndim == 2:
    net = torch_mlp(model, params)
  else:
    unet = torch_peers.load(torch_peers.UNet(model, x.shape[1:]), params)
    label = torch.full((len(x),), model.num_classes)
    net = lambda x, t: unet(x, t.expand(len(x)), label)
  x = torch.from_numpy(x)
  method = solver.ODESolver(lambda x, t: net(x, t))
  log_p0 = lambda x: -0.5 * (x.flatten(1) ** 2).sum(1)

  def run():
    method.compute_likelihood(
      x.clone(),
      log_p0,
      step_size=1 / NUM_STEPS,
      method="midpoint",
      exact_divergence=trace == "exact",
    )

  def forwards():
    with torch.no_grad():
      y, t = x, torch.tensor(0.5)
      for _ in range(CALLS):
        y = net(y, t)

  return run, forwards


def torch_mlp(model, params):
  """The same MLP in PyTorch: (x [B, D], t []) -> [B, D], our weights."""
  import torch
  from torch.nn import functional

  tensor = lambda a: torch.from_numpy(np.array(a))
  layers = [params["params"][f"hidden_{i}"] for i in range(3)]
  layers = [*layers, params["params"]["out"]]
  layers = [(tensor(p["kernel"]).T, tensor(p["bias"])) for p in layers]
  half = model.embedding_width // 2
  w = torch.from_numpy(np.geomspace(1, model.max_frequency, half)).float()

  def net(x, t):
    times = torch.cat([(t * w).sin(), (t * w).cos()])
    h = torch.cat([x, times.expand(len(x), -1)], 1)
    for weight, bias in layers[:-1]:
      h = functional.silu(functional.linear(h, weight, bias))
    return functional.linear(h, *layers[-1])

  return net


def page(rows: list[dict]) -> list[str]:
  """Lines of the table."""
  lines = [
    "",
    "## Cost",
    "",
    f"Forwards per evaluation: time of {NUM_STEPS} midpoint steps / ({CALLS}"
    " x own forward, jitted",
    "or, for PyTorch, eager), median (quartiles) of repetitions in turn. Batch",
    "1024 (MLP of 2-D points) and 64 (8 x 8 U-Net). Goal: at most 2.3 for one",
    "probe. Peers: flow_matching's compute_likelihood (its exact divergence",
    "fails on images) and a continuous normalising flow in diffrax, written",
    "with a vjp as in its example, or with a jvp. On CPUs XLA's reverse mode",
    "through convolutions is slow inside a loop; ours is forward mode.",
    "",
    "| network | trace | products | | forwards per evaluation | ms |",
    "|---|---|---|---|---|---|",
  ]
  for r in rows:
    low, middle, high = r["ratio"]
    lines.append(
      f"| {r['network']} | {r['trace']} | {r['products']} | {r['who']} |"
      f" {middle:.2f} ({low:.2f}-{high:.2f}) | {1e3 * r['seconds']:.1f} |"
    )
  return lines
