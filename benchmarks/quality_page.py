"""docs/results/quality.md, from what benchmarks.quality measures."""

import numpy as np

COLUMNS = {
  "frechet": "Frechet",
  "kid": "KID",
  "density": "density",
  "coverage": "coverage",
  "accuracy": "accuracy",
  "nearest_10": "nearest 10 %",
  "nearest_50": "50 %",
  "nearest_90": "90 %",
  "copies": "copies",
}
QUANTILES = ("nearest_10", "nearest_50", "nearest_90")
TITLES = {
  "digits": "Three trainings of `make demo`'s recipe",
  "flow": "Flow matching, noise to digits, three trainings",
  "score": "Score matching, annealed Langevin dynamics, three trainings",
  "corrected": "Score matching, predictor and corrector",
  "gan": "R3GAN, three trainings, one network call a sample",
  "dit": "Diffusion transformer",
  "photos": "Photographs, 32 x 32",
  "methods": "Five methods on the digits",
}
# Of the Frechet distance on test, from its floor.
GOALS = {
  "flow": ("the floor + .1", lambda floor: floor + 0.1),
  "score": ("1.3 x the floor", lambda floor: 1.3 * floor),
  "corrected": ("1.3 x the floor", lambda floor: 1.3 * floor),
  "gan": ("1.5 x the floor", lambda floor: 1.5 * floor),
}


def page(found: dict) -> str:
  """docs/results/quality.md."""
  lines = [
    "# Quality of samples",
    "",
    "`python -m benchmarks.quality digits flow score corrected gan curve dit"
    " photos methods`",
    "",
    "Means of 5 draws, +- their standard deviation; a draw has as many samples",
    "as there are held-out images, with their labels. What is measured, and",
    "why floors and a Gaussian stand beside: [metrics](../metrics.md). Choices",
    "are made on validation. A figure in bold misses its goal.",
    "",
    "KID's intervals of real images here are those of an older estimate;",
    "today's are narrower: [metrics](../metrics.md). The v-prediction row, on",
    "the cosine path, was trained before that path's scales kept the last",
    "digits of float32: its samples are not those of today bit for bit.",
  ]
  for name, title in TITLES.items():
    if name in found:
      lines += ["", f"## {title}", ""]
      for split in ("validation", "test"):
        lines += block(found[name]["rows"], split)
      lines += [*missed_lines(found[name]["rows"]), ""]
      if name in GOALS:
        lines += [goal_line(name, found[name]["rows"]), ""]
      lines += machine_lines(found[name])
  if "curve" in found:
    lines += ["", "## Over training", ""]
    lines += curve_lines(found["curve"]["rows"]["curve"])
    lines += ["", f"On {found['curve']['machine']}."]
  return "\n".join(lines) + "\n"


def block(rows: dict, split: str) -> list[str]:
  """A table: the floor, the goal, the Gaussian, then a line a training."""
  records = [row[split] for row in rows.values()]
  first = records[0]["metrics"]
  shown = [name for name in COLUMNS if first[name]["samples"] is not None]
  number = records[0]["number"]
  lines = table_head(
    [f"{split}, {number} a draw", *(COLUMNS[n] for n in shown)]
  )
  for key, title in (
    ("floor", "real, held out"),
    ("goal", "goal"),
    ("gaussian", "Gaussian"),
  ):
    lines.append(line(title, [number_text(first[n][key]) for n in shown]))
  for name, record in zip(rows, records, strict=True):
    lines.append(line(name, [cell(record["metrics"][n]) for n in shown]))
  if len(rows) > 1 and all(name.startswith("seed ") for name in rows):
    means = [
      np.mean([r["metrics"][n]["samples"] for r in records]) for n in shown
    ]
    lines.append(line("mean", [f"{mean:.3f}" for mean in means]))
  return [*lines, ""]


def missed_lines(rows: dict) -> list[str]:
  """What is in bold, in words, and what is no better than the Gaussian."""
  lines = []
  for split in ("validation", "test"):
    metrics = {row: found[split]["metrics"] for row, found in rows.items()}
    missed = _named(metrics, lambda m, name: m[name]["met"] is False)
    lines.append(f"- Goals missed on {split}: {missed or 'none'}.")
    worse = _named(metrics, _loses)
    if worse:
      lines.append(f"- Worse than the fitted Gaussian on {split}: {worse}.")
  return lines


def _named(metrics, holds):
  """metric (row, row); metric (row): those where it holds."""
  found = []
  for name, title in COLUMNS.items():
    title = f"nearest {title}" if title in ("50 %", "90 %") else title
    rows = [row for row, m in metrics.items() if holds(m, name)]
    if rows:
      found.append(f"{title} ({', '.join(rows)})")
  return "; ".join(found)


def _loses(metrics, name):
  """Whether a distance between distributions is above the Gaussian's."""
  row = metrics[name]
  if name in ("frechet", "kid"):
    return row["samples"] > row["gaussian"]
  return name == "coverage" and row["samples"] < row["gaussian"]


def goal_line(name: str, rows: dict) -> str:
  """The part's own goal, and what each training gets on test."""
  what, rule = GOALS[name]
  found = [row["test"]["metrics"]["frechet"] for row in rows.values()]
  goal = rule(found[0]["floor"])
  values = ", ".join(f"{row['samples']:.3f}" for row in found)
  met = sum(row["samples"] <= goal for row in found)
  return (
    f"Goal of the Frechet distance on test: {what}, {goal:.3f}; {values}: met"
    f" by {met} of {len(found)}."
  )


def curve_lines(row: dict) -> list[str]:
  """The table of the curve: a line a checkpoint."""
  found = row["validation"]
  shown = list(COLUMNS)
  lines = [f"`{row['command']}`, validation.", ""]
  lines += ["![Every metric by training step](../images/quality.png)", ""]
  lines += table_head(["step", *COLUMNS.values()])
  last = list(found.values())[-1]["metrics"]
  lines.append(line("real", [number_text(last[n]["floor"]) for n in shown]))
  for step, record in found.items():
    lines.append(line(step, [cell(record["metrics"][n]) for n in shown]))
  return [*lines, "", *map(passing, QUANTILES, [found] * len(QUANTILES))]


def passing(name: str, found: dict) -> str:
  """When a distance to the training images falls below the real one's."""
  title = f"{name.removeprefix('nearest_')} % quantile"
  rows = {step: record["metrics"][name] for step, record in found.items()}
  below = [s for s, r in rows.items() if r["samples"] < r["floor"]]
  if not below:
    return f"- The {title} stays above that of real images."
  steps = list(rows)
  before = steps[max(steps.index(below[0]) - 1, 0)]
  missed = [step for step, row in rows.items() if row["met"] is False]
  goal = f"misses its goal from step {missed[0]} on" if missed else "meets it"
  return (
    f"- The {title} of the distance to the nearest training image falls below"
    f" that of real images between steps {before} and {below[0]}; it {goal}."
  )


def machine_lines(found: dict) -> list[str]:
  """The commands, the seconds of training and where it ran."""
  lines = [
    f"- {name}: `{row['command']}`"
    + (f", {row['seconds']:.0f} s" if "seconds" in row else "")
    + _calls(row)
    for name, row in found["rows"].items()
  ]
  return [*lines, "", f"On {found['machine']}."]


def _calls(row):
  calls = row["test"].get("calls")
  return "" if calls is None else f", {calls} network calls a sample"


def table_head(names: list[str]) -> list[str]:
  return [line(*names[:1], names[1:]), "|---" * len(names) + "|"]


def line(name, cells: list[str]) -> str:
  return f"| {name} | {' | '.join(cells)} |"


def cell(row: dict) -> str:
  """Mean and spread; in bold where the goal is missed."""
  text = f"{row['samples']:.3f}"
  if row["spread"]:
    text += f" +- {row['spread']:.3f}"
  return f"**{text}**" if row["met"] is False else text


def number_text(value) -> str:
  """A figure, an interval or a bound."""
  match value:
    case None | [None, None]:
      return ""
    case [None, high]:
      return f"<= {high:.3f}"
    case [low, None]:
      return f">= {low:.3f}"
    case [low, high]:
      return f"[{low:.3f}, {high:.3f}]"
  return f"{value:.3f}"
