"""Bits per dimension of a digits run: probability flow and diffusion bound.

The images have 17 levels, and the network was trained on bare levels: its
density near them has no limit, so that a level's probability is reached by
dequantisation with the path's own noise at a ratio chosen on validation. The
uniform one at t_min stands beside, with its truncation.
"""

import pathlib
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, trained
from jaxgen import dequantisation, diffusion_bound, likelihood, samplers, traces

RATIOS = (0.02, 0.03, 0.04, 0.05, 0.06)
NUM_STEPS, PROBES = 24, 2
CHUNK = 60


class Model(types.SimpleNamespace):
  """config, data, method, params of a run."""


def load(run_dir: pathlib.Path) -> Model:
  """A run of experiments.edm on digits.

  Raises:
    FileNotFoundError: there is no run, or no checkpoint.
    ValueError: it is not a run of this version on digits.
  """
  config, data, method = trained.drawing.read(run_dir)
  if config.data != "digits":
    raise ValueError(f"{run_dir}: expected a run on digits, got {config.data}")
  params = trained.averages.load(config, method)
  return Model(config=config, data=data, method=method, params=params)


def _field(model, label):
  return trained.build.make_field(model.method, model.params, label)


def _prior_std(model, ratio_max=80.0):
  path = model.method.sample_path
  t = path.ends(0.002, ratio_max)[1]
  return float(np.hypot(path.alpha(t) * model.config.sigma_data, path.sigma(t)))


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
  path = model.method.sample_path
  return samplers.grids.karras(path, num_steps, ratio_min=ratio)[::-1]


def flow(model, kind, trace):
  """Jitted: (images, labels, keys, times) -> parts of the bound by the flow."""
  path, levels = model.method.sample_path, model.data.levels
  prior = likelihood.normal(_prior_std(model))

  def one(image, label, key, times):
    field, t = _field(model, label), times[0]
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


def bound(model, ratio, times=None, num_cells=48):
  """Jitted: (images, labels, keys) -> parts of the diffusion bound."""
  settings = dict(
    prior_std=_prior_std(model),
    reconstruction=diffusion_bound.levels(model.data.levels),
  )

  def one(image, label, key):
    field = _field(model, label)
    if times is None:
      found = diffusion_bound.continuous(
        field, image, key, num_cells=num_cells, ratio_min=ratio, **settings
      )
    else:
      found = diffusion_bound.discrete(field, image, times, key, **settings)
    parts = found._asdict()
    return parts | dict(inner=parts.pop("standard_error"))

  return jax.jit(jax.vmap(one))


def summary(model, parts: dict[str, Any], **settings) -> dict:
  """Bits/dim: means, the error over images, and its part from the draws."""
  size = int(np.prod(model.data.shape))
  bits = {k: v / (size * np.log(2)) for k, v in parts.items()}
  number = len(bits["total"])
  inner = bits.pop("inner")
  return settings | dict(
    number=number,
    parts={k: float(v.mean()) for k, v in bits.items()},
    error=float(bits["total"].std(ddof=1) / np.sqrt(number)),
    inner=float(np.sqrt(np.sum(inner**2)) / number),
  )


def round_trip(model, num_steps=48, number=CHUNK):
  """The largest difference of images encoded to ratio 80 and decoded."""
  path = model.method.sample_path
  times = samplers.grids.karras(path, num_steps)
  solver = samplers.rk4()

  def one(image, label, key):
    field = _field(model, label)
    x = path.alpha(times[-1]) * image
    latent = samplers.integrate(solver, field, x, times[::-1], key)
    back = samplers.integrate(solver, field, latent, times, key)
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
  path = model.method.sample_path
  run = flow(model, "noise", traces.hutchinson(PROBES))
  validation = []
  for ratio in RATIOS:
    times = grid(model, ratio)
    found = over(model, run, "validation", times, number=90, seed=1)
    validation.append(summary(model, found, kind="flow", ratio=ratio))
  ratio = min(validation, key=lambda row: row["parts"]["total"])["ratio"]
  times = grid(model, ratio)
  exact = flow(model, "noise", traces.exact())
  uniform = flow(model, "uniform", traces.hutchinson(PROBES))
  chain = samplers.grids.log_snr(path, 64, ratio_min=ratio)
  first = dict(number=CHUNK // 2)
  jobs = {
    "flow": (run, ratio, (times,), {}),
    "flow, finer": (run, ratio, (grid(model, ratio, 2 * NUM_STEPS),), {}),
    "flow, few images": (run, ratio, (times,), first),
    "flow, the same by the exact trace": (exact, ratio, (times,), first),
    "flow, uniform dequantisation": (
      *(uniform, 0.002, (grid(model, 0.002, 2 * NUM_STEPS),)),
      dict(number=2 * CHUNK),
    ),
    "bound, continuous time": (bound(model, ratio), ratio, (), {}),
    "bound, 64 steps": (bound(model, ratio, chain), ratio, (), {}),
  }
  rows = []
  for name, (run, ratio, rest, settings) in jobs.items():
    found = over(model, run, "test", *rest, **settings)
    rows.append(summary(model, found, kind=name, ratio=ratio))
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
  tried = ", ".join(
    f"{row['ratio']:g}: {row['parts']['total']:.3f}"
    for row in record["validation"]
  )
  return dict(
    digits_run=f"`{record['run']}`, 17 levels, test split, bits/dim of"
    " P(image | label):",
    bits=pages.table(
      "estimator | ratio | images | bits/dim | of draws | parts", lines
    ),
    tried=tried,
    round_trip=[
      f"{trip['number']} test images in float32, {trip['num_steps']} Karras"
      " steps of rk4 from ratio .002 to 80 and back:",
      f"largest difference of a pixel {trip['largest']:.1e}, median over images"
      f" {trip['median']:.1e} (goal 1e-3).",
    ],
  )
