"""Estimates of log-likelihoods: their intervals, and bits per dimension of a
run on digits by the probability flow and the diffusion bound.

The images have 17 levels, and the network was trained on bare levels: its
density near them has no limit. So the probability of a level is reached by
dequantisation with the path's own noise, at a ratio chosen on validation.
Uniform dequantisation at t_min stands beside, with its truncation.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import pages, trained
from jaxgen import (
  dequantisation,
  diffusion_bound,
  likelihood,
  paths,
  samplers,
  traces,
)
from jaxgen.data import oracles

REPETITIONS = 1000
RATIOS = (0.02, 0.03, 0.04, 0.05, 0.06)
NUM_STEPS, PROBES, CHUNK = 24, 2, 60


def rms(values) -> float:
  """Root mean square."""
  return float(np.sqrt(np.mean(np.square(values))))


def gaussian(dim: int, low: float, high: float) -> oracles.Mixture:
  """N(m, C), the eigenvalues of C from low to high, in a random basis."""
  rng = np.random.default_rng(dim)
  basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
  covariance = basis * np.geomspace(low, high, dim) @ basis.T
  return oracles.gaussian(rng.standard_normal(dim) / 2, covariance)


def density(oracle, path, solve, x, key, trace):
  """The log-density of x_t at ratio .002; the prior is exact."""
  high = path.ends(0.002, 80.0)[1]
  prior = lambda x: oracle.log_prob(path, x, high)
  field = oracle.field(path)
  return likelihood.log_prob(solve, field, x, key, prior=prior, trace=trace)


def coverage(dim=16, num_steps=24):
  """95 % intervals of one point's log-density over fresh probes."""
  rows = []
  kinds = {
    "signs": traces.hutchinson(6),
    "signs, more": traces.hutchinson(12),
    "normal": traces.hutchinson(12, jax.random.normal),
    "Hutch++": traces.hutchpp(4),
  }
  with jax.enable_x64(True):
    oracle, path = gaussian(dim, 0.01, 2.0), paths.linear()
    times = samplers.grids.karras(path, num_steps)[::-1]
    solve = likelihood.along(samplers.rk4(), times)
    x = jax.jit(oracle.sample)(jax.random.key(1))
    run = lambda key, trace: density(oracle, path, solve, x, key, trace)
    run = jax.jit(run, static_argnums=1)
    truth = run(jax.random.key(0), traces.exact()).log_prob
    keys = jax.random.split(jax.random.key(2), REPETITIONS)
    for name, trace in kinds.items():
      found = jax.jit(jax.vmap(lambda key, t=trace: run(key, t)))(keys)
      error = np.asarray(found.log_prob - truth)
      se = np.asarray(found.standard_error)
      quantile = stats.t.ppf(0.975, trace.num_estimates - 1)
      rows.append(
        dict(
          probes=name,
          num_products=trace.num_products(dim),
          degrees=trace.num_estimates - 1,
          covered=float(np.mean(np.abs(error) < quantile * se)),
          rms=rms(error),
          standard_error=rms(se),
        )
      )
  return rows


class Model(NamedTuple):
  """A run's data, its field of a label, the path, and the prior's std."""

  data: trained.datasets.Data
  field: Callable
  path: paths.Path
  prior_std: float


def load(run_dir: pathlib.Path) -> Model:
  """A run of experiments.edm on digits.

  Raises:
    FileNotFoundError: there is no run, or no checkpoint.
    ValueError: it is not a run of this version on digits.
  """
  ex = trained.samples.read(run_dir)
  if ex.config.data != "digits":
    raise ValueError(
      f"{run_dir}: expected a run on digits, got {ex.config.data}"
    )
  params = trained.averages.load(ex)
  field = lambda label: ex.field(*params, label)
  path = field(0).path
  high = path.ends(0.002, 80.0)[1]
  std = np.hypot(path.alpha(high) * ex.config.sigma_data, path.sigma(high))
  return Model(ex.data, field, path, float(std))


def over(model, run, split, *rest, number=None, seed=0):
  """run(image, label, key, *rest) over a split, chunk by chunk: [N] leaves."""
  images, labels = (a[:number] for a in model.data.split(split))
  keys = jax.random.split(jax.random.key(seed), len(images))
  size, parts = min(CHUNK, len(images)), []
  for i in range(0, len(images), size):
    rows = np.arange(i, i + size) % len(images)  # one size, one program
    part = run(images[rows], labels[rows], keys[rows], *rest)
    parts.append(jax.tree.map(lambda a: np.asarray(a)[: len(images) - i], part))
  return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def grid(model, ratio, num_steps=NUM_STEPS):
  """Times from a noise ratio up to 80."""
  return samplers.grids.karras(model.path, num_steps, ratio_min=ratio)[::-1]


def flow(model, kind, trace):
  """Jitted: (images, labels, keys, times) -> parts of the bound by the flow."""
  path, levels = model.path, model.data.levels
  prior = likelihood.normal(model.prior_std)

  def one(image, label, key, times):
    field, t = model.field(label), times[0]
    draw_key, probe_key, last_key = jax.random.split(key, 3)
    if kind == "noise":
      draw = dequantisation.gaussian(draw_key, image, levels, path, t)
      x, change = draw.x, jnp.zeros(())
    else:
      draw = dequantisation.uniform(draw_key, image, levels)
      x = path.alpha(t) * draw.x
      change = likelihood.truncation(field, x, t, last_key, trace=trace)
    solve = likelihood.along(samplers.rk4(), times)
    found = likelihood.log_prob(
      solve, field, x, probe_key, prior=prior, trace=trace
    )
    return dict(
      total=-(found.log_prob + draw.correction + change),
      prior=-found.prior,
      divergence=-found.divergence,
      dequantisation=-draw.correction,
      truncation=-change,
      inner=found.standard_error,
    )

  return jax.jit(jax.vmap(one, (0, 0, 0, None)))


def bound(model, ratio, times=None):
  """Jitted: (images, labels, keys) -> parts of the diffusion bound."""
  how = dict(
    prior_std=model.prior_std,
    reconstruction=diffusion_bound.levels(model.data.levels),
  )

  def one(image, label, key):
    field = model.field(label)
    if times is None:
      found = diffusion_bound.continuous(
        field, image, key, num_cells=48, ratio_min=ratio, **how
      )
    else:
      found = diffusion_bound.discrete(field, image, times, key, **how)
    parts = found._asdict()
    return parts | dict(inner=parts.pop("standard_error"))

  return jax.jit(jax.vmap(one))


def summary(model, parts: dict, kind: str, ratio: float) -> dict:
  """Bits/dim: means, the error over images, and its part from the probes."""
  size = int(np.prod(model.data.shape))
  bits = {k: v / (size * np.log(2)) for k, v in parts.items()}
  inner, number = bits.pop("inner"), len(bits["total"])
  return dict(
    kind=kind,
    ratio=ratio,
    number=number,
    parts={k: float(v.mean()) for k, v in bits.items()},
    error=float(bits["total"].std(ddof=1) / np.sqrt(number)),
    inner=float(np.sqrt(np.sum(inner**2)) / number),
  )


def round_trip(model, num_steps=48, number=CHUNK):
  """The largest difference of images encoded to ratio 80 and decoded."""
  path = model.path
  times = samplers.grids.karras(path, num_steps)

  def one(image, label, key):
    along = lambda x, times: samplers.integrate(
      samplers.rk4(), model.field(label), x, times, key
    )
    x = path.alpha(times[-1]) * image
    back = along(along(x, times[::-1]), times)
    return jnp.abs(back - x).max() / path.alpha(times[-1])

  found = over(model, jax.jit(jax.vmap(one)), "test", number=number)
  return dict(
    num_steps=num_steps,
    number=number,
    largest=float(found.max()),
    median=float(np.median(found)),
  )


def measure(run_dir: pathlib.Path) -> dict:
  """Chooses the ratio on validation, measures on test."""
  model = load(run_dir)
  probed = flow(model, "noise", traces.hutchinson(PROBES))
  validation = []
  for ratio in RATIOS:
    times = grid(model, ratio)
    found = over(model, probed, "validation", times, number=90, seed=1)
    validation.append(summary(model, found, "flow", ratio))
  ratio = min(validation, key=lambda row: row["parts"]["total"])["ratio"]
  times, finer = (grid(model, ratio, k * NUM_STEPS) for k in (1, 2))
  exact = flow(model, "noise", traces.exact())
  uniform = flow(model, "uniform", traces.hutchinson(PROBES))
  low = 0.002
  from_low = grid(model, low, 2 * NUM_STEPS)
  chain = samplers.grids.log_snr(model.path, 64, ratio_min=ratio)
  few, more = CHUNK // 2, 2 * CHUNK
  jobs = {  # kind: its program, times, number of images and ratio
    "flow": (probed, (times,), None, ratio),
    "flow, finer": (probed, (finer,), None, ratio),
    "flow, few images": (probed, (times,), few, ratio),
    "flow, the same by the exact trace": (exact, (times,), few, ratio),
    "flow, uniform dequantisation": (uniform, (from_low,), more, low),
    "bound, continuous time": (bound(model, ratio), (), None, ratio),
    "bound, 64 steps": (bound(model, ratio, chain), (), None, ratio),
  }
  rows = []
  for kind, (run, grids, number, ratio_min) in jobs.items():
    found = over(model, run, "test", *grids, number=number)
    rows.append(summary(model, found, kind, ratio_min))
  return dict(
    run=str(run_dir),
    rows=rows,
    validation=validation,
    round_trip=round_trip(model),
  )


def tables(record: dict) -> dict:
  """The parts of the page."""
  trip, lines = record["round_trip"], []
  for r in record["rows"]:
    parts = dict(r["parts"])
    bits = f"{parts.pop('total'):.3f} +- {r['error']:.3f}"
    named = ", ".join(f"{k} {v:.3f}" for k, v in parts.items() if v)
    row = r["kind"], f"{r['ratio']:g}", r["number"], bits
    lines.append((*row, f"{r['inner']:.4f}", named))
  tried = (
    f"{row['ratio']:g}: {row['parts']['total']:.3f}"
    for row in record["validation"]
  )
  head = "estimator | ratio | images | bits/dim | of draws | parts"
  return dict(
    digits_run=f"`{record['run']}`, 17 levels, test split, bits/dim of"
    " P(image | label):",
    bits=pages.table(head, lines),
    tried=", ".join(tried),
    round_trip=[
      f"{trip['number']} test images in float32, {trip['num_steps']} Karras"
      " steps of rk4 from ratio .002 to 80 and back:",
      f"largest difference of a pixel {trip['largest']:.1e}, median over images"
      f" {trip['median']:.1e} (goal 1e-3).",
    ],
  )
