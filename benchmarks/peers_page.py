"""The page of benchmarks/peers.py."""

import numpy as np

# (ours, theirs, why they differ): methods of one name.
PAIRS = (
  ("euler", "diffusers EulerDiscrete", ""),
  ("ddim", "diffusers DDIM", ""),
  ("heun", "diffusers HeunDiscrete", ""),
  ("heun, linear", "diffusers FlowMatchHeun", ""),
  ("heun", "diffrax Heun", ""),
  ("midpoint", "torchdiffeq midpoint", ""),
  ("rk4", "torchdiffeq rk4", "theirs is Kutta's 3/8 rule"),
  ("adams_bashforth(4)", "diffusers LMSDiscrete", ""),
  ("dpm_solver_2s", "k_diffusion dpm_2", ""),
  (
    "dpm_solver_3s",
    "diffusers DPMSolverSinglestep 3, noise",
    "their third stage has half of exp(h) - 1 for the published weight",
  ),
  ("dpmpp_2s", "k_diffusion dpmpp_2s_ancestral", ""),
  ("dpmpp_2m", "diffusers DPMSolverMultistep 2", ""),
  (
    "dpmpp_3m",
    "diffusers DPMSolverMultistep 3 full",
    "theirs has half of the third order's term, and so order two",
  ),
  ("deis(2)", "diffusers DEIS 2 full", ""),
  ("deis(3)", "diffusers DEIS 3 full", ""),
  (
    "deis(3)",
    "diffusers DEIS 3",
    "below 15 steps their last two have orders two and one",
  ),
  ("unipc(2)", "diffusers UniPC 2", ""),
  ("unipc(3)", "diffusers UniPC 3 full", ""),
  (
    "unipc(3)",
    "diffusers UniPC 3",
    "their step before the denoise has order two",
  ),
  ("unipc(4)", "diffusers UniPC 4 full", ""),
)


def page(record):
  """Markdown of every part that has been run."""
  lines = ["# Peers", ""]
  lines += ["The same denoiser, grid and number of evaluations (NFE)."]
  for part, section in (
    ("error", error),
    ("overhead", overhead),
    ("cold", cold),
  ):
    if part not in record:
      continue
    found = record[part]
    names = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    command = f"`python -m benchmarks.peers --parts {part}`"
    lines += ["", *section(found["rows"])]
    lines += ["", f"{command} on {found['machine']}; {names}."]
  return "\n".join(lines) + "\n"


def error(rows):
  """Best against best, methods of one name, and every method."""
  grids = list(rows[0]["rmse"])
  budgets = list(rows[0]["rmse"][grids[0]])
  lines = ["## Error", ""]
  lines += ["8 Gaussians (radius 1, std .05), exact denoiser, float64, noise"]
  lines += [
    "levels 80 to .002, 2000 points (seed 0): per-coordinate RMSE after"
  ]
  lines += [
    "the final denoise to DOP853's solution. NFE counts the denoise and"
  ]
  lines += ["is counted, not claimed; methods of several calls a step take the"]
  lines += ["steps that fit. Order: fitted on log_snr at NFE 129, 257 and 513."]
  lines += ["Names as the libraries have them; full: lower_order_final off;"]
  lines += [
    "noise, heun, bh1: algorithm_type, solver_type. dopri5: the best of"
  ]
  lines += ["thirteen tolerances within the NFE, all points in common steps."]
  lines += [
    "",
    "| grid | NFE | best of ours | best peer | ours / peer, goal 1.01 |",
  ]
  lines += ["|---|---|---|---|---|"]
  for grid in grids:
    for budget in budgets:
      ours = best(rows, grid, budget, lambda row: row["library"] == "jaxgen")
      peer = best(rows, grid, budget, lambda row: row["library"] != "jaxgen")
      lines.append(
        f"| {grid} | {budget} | {show(ours)} | {show(peer)} |"
        f" {ours[0] / peer[0]:.3f} |"
      )
  number = sum(row["library"] == "jaxgen" for row in rows)
  lines += [
    "",
    f"Each line has the best of our {number} rows and the best of the",
  ]
  lines += [
    f"peers' {len(rows) - number} for its column, chosen with hindsight."
  ]
  head = " | ".join(f"{g} {b}" for g in grids for b in budgets)
  lines += ["", "Methods of one name, ours over theirs:", ""]
  lines += [f"| ours | theirs | {head} | where they differ |"]
  lines += ["|---" * (3 + len(grids) * len(budgets)) + "|"]
  named = {label(row): row for row in rows}
  for mine, theirs, why in PAIRS:
    if f"jaxgen {mine}" in named and theirs in named:
      lines.append(pair(named, mine, theirs, grids, budgets, why))
  lines += ["", "The peer's error is smaller by more than 1 % for"]
  lines += [ahead(named, grids, budgets)]
  lines += ["", f"| method | {head} | order |"]
  lines += ["|---" * (2 + len(grids) * len(budgets)) + "|"]
  for row in rows:
    errors = [row["rmse"][grid][budget] for grid in grids for budget in budgets]
    cells = ["-" if e is None else f"{e:.2g}" for e in errors]
    order = "-" if row["order"] is None else f"{row['order']:.2f}"
    lines.append(f"| {label(row)} | {' | '.join(cells)} | {order} |")
  return lines


def label(row):
  """Library and name."""
  return f"{row['library']} {row['name']}"


def best(rows, grid, budget, of):
  """The smallest error at a budget, and whose it is."""
  errors = [(row["rmse"][grid][budget], label(row)) for row in rows if of(row)]
  return min(found for found in errors if found[0] is not None)


def show(found):
  """An error and its method."""
  return f"{found[0]:.3g} {found[1]}"


def errors_of(named, mine, theirs, grids, budgets):
  """The errors of both methods, a pair a column."""
  a, b = named[f"jaxgen {mine}"]["rmse"], named[theirs]["rmse"]
  return [(a[g][n], b[g][n]) for g in grids for n in budgets]


def pair(named, mine, theirs, grids, budgets, why):
  """One line of the table of same names."""
  both = errors_of(named, mine, theirs, grids, budgets)
  cells = [
    "-" if None in found else f"{found[0] / found[1]:.3f}" for found in both
  ]
  return f"| {mine} | {theirs} | {' | '.join(cells)} | {why} |"


def ahead(named, grids, budgets):
  """The pairs whose ratio is above 1.01, and in how many columns."""
  found = []
  for mine, theirs, _ in PAIRS:
    if f"jaxgen {mine}" in named and theirs in named:
      both = errors_of(named, mine, theirs, grids, budgets)
      both = [found for found in both if None not in found]
      wins = sum(ours > 1.01 * peer for ours, peer in both)
      if wins:
        found.append(f"{theirs} (our {mine}) in {wins} of {len(both)} columns")
  return "; ".join(found) + "." if found else "none of them."


def overhead(rows):
  """Ratios over the forwards."""
  lines = ["## Overhead", ""]
  lines += [
    "A sampler's time over that of as many forwards of its own network,"
  ]
  lines += [
    "NFE 35 or the next below, batch 64: median (quartiles) of ratios in"
  ]
  lines += ["turn. Goal of ours: 1.02. The networks have the same layers and"]
  lines += ["weights in JAX and in PyTorch (eager).", ""]
  lines += ["| network | method | ratio | sampler, ms | forwards, ms |"]
  lines += ["|---|---|---|---|---|"]
  for r in rows:
    lines.append(
      f"| {r['network']} | {label(r)} |"
      f" {r['ratio']:.3f} ({r['low']:.3f}-{r['high']:.3f}) |"
      f" {r['ours_ms']:.1f} | {r['theirs_ms']:.1f} |"
    )
  return lines


def cold(rows):
  """Seconds to the first sample."""
  lines = ["## Cold start", ""]
  lines += ["Seconds from a new process to 64 samples of 17 Heun steps and the"]
  lines += [
    "denoise, an MLP of three hidden layers of 128: imports, compilation"
  ]
  lines += ["and all, no compilation cache. Median (quartiles), in turn.", ""]
  lines += ["| library | seconds | over ours |", "|---|---|---|"]
  ours = next(np.median(r["seconds"]) for r in rows if r["library"] == "jaxgen")
  for r in rows:
    low, middle, high = np.quantile(r["seconds"], [0.25, 0.5, 0.75])
    lines.append(
      f"| {r['library']} | {middle:.2f} ({low:.2f}-{high:.2f}) |"
      f" {middle / ours:.2f} |"
    )
  return lines
