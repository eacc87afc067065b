"""The page and the pictures of benchmarks.few_steps."""

import pathlib

import numpy as np

from experiments.lib import figures

plt = figures.plt
GOALS = {11: 0.015, 19: 0.0035, 35: 0.0015}


def _cell(found):
  if found is None:
    return "-"
  return f"{found['mean']:.2g} ± {found['std']:.1g}"


def line(row: dict) -> str:
  """One line of a table."""
  scanned = f"{_cell(row['scanned'])} ({row['scanned']['rho']})"
  ratio = f"{row['fitted']['ratio']:.2f}" if row["fitted"] else "-"
  return (
    f"| {row['solver']} | {row['nfe']} | {row['num_steps']} |"
    f" {_cell(row['karras'])} | {_cell(row['log_snr'])} | {scanned} |"
    f" {_cell(row['fitted'])} | {ratio} |"
  )


def _table(rows):
  names = "solver, NFE, steps, Karras rho 7, log_snr, best Karras (rho), fitted"
  names = [*names.split(", "), "fitted / best"]
  head = f"| {' | '.join(names)} |"
  return [head, "|---" * len(names) + "|", *map(line, rows)]


def _goals(rows):
  lines = ["| NFE | goal | best | by |", "|---|---|---|---|"]
  for nfe, goal in GOALS.items():
    found = []
    for row in rows:
      if row["nfe"] == nfe:
        for grid in ("karras", "log_snr", "scanned", "fitted"):
          if row[grid]:
            found.append((row[grid]["mean"], f"{row['solver']}, {grid}"))
    best, name = min(found, default=(np.nan, "-"))
    lines.append(f"| {nfe} | {goal} | {best:.2g} | {name} |")
  return lines


def page(record: dict) -> str:
  """The results page."""
  rows = record["mixture"]
  seconds = [row["fitted"]["seconds"] for row in rows if row["fitted"]]
  lines = [
    "# Few steps",
    "",
    f"`python -m benchmarks.few_steps --run {record['run']}` on",
    f"{record['machine']}; {record['seconds']} s.",
    "",
    "Per-coordinate RMSE of the final denoise to the converged flow, mean ±",
    "standard deviation over three sets of held-out particles. EDM path, noise",
    "ratios .002 to 80; NFE counts the final denoise; a solver of several",
    "calls a step takes as many steps as fit. Best Karras: the best of 24 rho",
    "from 2 to 100 (log spaced) and of infinity (log_snr) on the first set.",
    "Fitted: `samplers.grids.fitted`, on other particles than those measured.",
    "",
    "![error against NFE](../images/few_steps.png)",
    "",
    "## Exact mixture",
    "",
    "8 Gaussians on a circle of radius 1, std .05; sets of 2000, float64.",
    "Truth: 4096 Heun steps uniform in log SNR. Fits: 512 particles, 64",
    "candidates, 10 refinements; three fits on three draws, one for each",
    f"held-out set; {min(seconds):.0f} to {max(seconds):.0f} s for the three,"
    " compilation included.",
    "",
    *_goals(rows),
    "",
    *_table(rows),
    "",
    "![trajectories](../images/trajectories.png)",
  ]
  if "digits" in record:
    rows = record["digits"]
    seconds = [row["fitted"]["seconds"] for row in rows if row["fitted"]]
    lines += [
      "",
      "## Trained digits",
      "",
      f"The U-Net of `{record['run']}` (8x8 digits, all classes), float32,",
      "sets of 100. Truth: 256 Heun steps uniform in log SNR. Fits: 64",
      "particles, 32 candidates and 8 refinements (48 and 4 at NFE 35);",
      f"{min(seconds):.0f} to {max(seconds):.0f} s for one.",
      "",
      *_table(rows),
    ]
  return "\n".join(lines) + "\n"


def curves(path: pathlib.Path, found: dict[str, list], rows: list) -> None:
  """Error against NFE, a line a solver, the slope of its end in the legend."""
  figure, axis = plt.subplots(figsize=(9, 5.6), layout="constrained")
  styles = ("-", "--", ":", "-.")
  order = sorted(found, key=lambda name: -found[name][-1][1])
  for i, name in enumerate(order):
    nfe, error = np.array(found[name]).T
    slope = np.polyfit(np.log(nfe[-3:]), np.log(error[-3:]), 1)[0]
    axis.loglog(
      nfe,
      error,
      styles[i // 10],
      marker="os^v"[i // 5],
      markersize=4,
      color=f"C{i % 10}",
      linewidth=1.3,
      label=f"{name}  {slope:.1f}",
    )
  fits = [r for r in rows if r["solver"] == "unipc(2)" and r["fitted"]]
  axis.plot(
    [row["nfe"] for row in fits],
    [row["fitted"]["mean"] for row in fits],
    "kD--",
    markersize=5,
    label="unipc(2), fitted grid",
  )
  for nfe, goal in GOALS.items():
    axis.plot(nfe, goal, "k*", markersize=10, zorder=5)
  axis.plot([], [], "k*", label="goals (any grid)")
  ticks = sorted({nfe for points in found.values() for nfe, _ in points[-1:]})
  ticks = [11, 19, 35, 79, 159, ticks[-1]]
  axis.set_xticks(ticks, [f"{int(nfe)}" for nfe in ticks])
  axis.minorticks_off()
  axis.set(
    xlabel="field calls (NFE)",
    ylabel="RMSE to the exact flow",
    title="8 Gaussians, times uniform in log SNR; slope of the last three",
  )
  axis.grid(alpha=0.3)
  axis.legend(
    loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9
  )
  figures.save(figure, path)


def trajectories(path: pathlib.Path, found: dict[str, np.ndarray]) -> None:
  """A panel a sampler: states over the standard deviation of unit data."""
  titles = list(found)
  exact = found[titles[0]]
  figure, axes = plt.subplots(
    1, len(found), figsize=(3 * len(found), 3.4), layout="constrained"
  )
  for axis, title in zip(axes, titles, strict=True):
    for i, (states, true) in enumerate(zip(found[title], exact, strict=True)):
      color = f"C{i % 8}"
      axis.plot(*true.T, color="0.8", linewidth=3, zorder=1)
      marker = None if title == titles[0] else "o"
      axis.plot(
        *states.T,
        marker=marker,
        color=color,
        markersize=2.5,
        linewidth=1,
        zorder=2,
      )
      axis.plot(*states[-1], "o", color=color, markersize=5, zorder=3)
    axis.set(aspect="equal", xticks=[], yticks=[])
    axis.set_xlim(-2.2, 2.2)
    axis.set_ylim(-2.2, 2.2)
    axis.set_title(title, fontsize=10)
  figures.save(figure, path)
