"""The page of benchmarks.tables c2ot."""

import numpy as np

from benchmarks import c2ot

SOLVES = ("euler", "adaptive")


def published() -> dict:
  """{(condition, method): (Euler-1, adaptive)}, of the paper's figure 1."""
  return {
    ("none", "FM"): (6.232, 0.120),
    ("none", "OT"): (0.072, 0.050),
    ("discrete", "FM"): (2.573, 0.059),
    ("discrete", "OT"): (0.483, 0.462),
    ("discrete", "C2OT"): (0.048, 0.018),
    ("continuous", "FM"): (0.732, 0.028),
    ("continuous", "OT"): (8.276, 2.143),
    ("continuous", "C2OT"): (0.077, 0.013),
  }


def spread(values: list[float]) -> str:
  """mean +- standard deviation over seeds."""
  deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
  return f"{np.mean(values):.4f} +- {deviation:.4f}"


def lines_of(column: str, method: str, found: list[dict]) -> list[str]:
  """The row of the last weights and that of their average."""
  given = published().get((column, method), ("-", "-"))
  lines = []
  for kind, title in (("last", ""), ("mean", ", average weights")):
    shown = [
      cell
      for solve, figure in zip(SOLVES, given, strict=True)
      for cell in (spread([v[kind][solve] for v in found]), str(figure))
    ]
    calls = np.mean([v[kind]["num_calls"] for v in found])
    lines.append(
      f"| {column} | {method}{title} | {' | '.join(shown)} | {calls:.0f} |"
      f" {len(found)} |"
    )
  return lines[:1] if method == "floor" else lines


def protocol() -> list[str]:
  """What was taken from their code, and what was not."""
  settings = dict(c2ot.SETTINGS)
  return [
    "Taken from their code: 8 Gaussians (radius 5, covariance sqrt(.1) I) to",
    "torchdyn's moons (evenly spaced along the arcs, noise .2, times 3, less",
    "1); a residual network of width 128, three blocks 128 -> 512 -> 128, with",
    "linear embeddings of x, time and condition added; Adam at 3e-4, 20,000",
    "steps of 256; pools of 1024 coupled and split in four batches; no bridge",
    "noise; r = .05; the discrete condition is the moon as -1 or 1, the",
    "continuous one the target's x coordinate. At the test the source is drawn",
    "apart from the condition. Euler-1: one step. Adaptive: Dormand and",
    "Prince's method at tolerance 1e-4. The figure, which they call W2, is the",
    "squared distance of optimal transport from 10,000 generated to 10,000",
    "target points, those whose conditions were given.",
    "",
    f"Not theirs: {settings['num_pools']} pools are coupled (theirs: 5000) and",
    "used again in turn, in new batches of time; pools are shuffled, where",
    "their FM rows see one moon a batch; seeds are fewer than their 10;",
    f"'average weights' is an average (decay {settings['decay']}) of the same",
    "run's weights, the other row its last weights, as theirs.",
    "",
    "Floor: other 10,000 draws of the target's law.",
    "",
  ]


def conclusion(record: dict) -> list[str]:
  """How C2OT's rows compare with the published ones."""
  lines = ["## What this says", ""]
  for column in ("discrete", "continuous"):
    found = record["cells"].get(column, {}).get("C2OT")
    if not found:
      continue
    for solve, figure in zip(SOLVES, published()[column, "C2OT"], strict=True):
      last, mean = (
        np.mean([v[kind][solve] for v in found]) for kind in ("last", "mean")
      )
      words = ["above" if v > figure else "at or below" for v in (last, mean)]
      lines.append(
        f"- C2OT, {column}, {solve}, published {figure}: {last:.4f} by the last"
        f" weights ({words[0]}), {mean:.4f} by average weights ({words[1]})."
      )
  pairs = [
    [np.mean([v[kind][solve] for v in found]) for kind in ("last", "mean")]
    for methods in record["cells"].values()
    for method, found in methods.items()
    if method != "floor"
    for solve in SOLVES
  ]
  lower = sum(mean < last for last, mean in pairs)
  return [
    *lines,
    "",
    "The last weights are those of their recipe, and move with the seed: at a",
    "constant rate the noise of the last steps is in the map. The average of",
    f"the same run's weights has the smaller figure in {lower} of {len(pairs)}"
    " cells.",
  ]


def page(record: dict) -> str:
  """Markdown."""
  rows = [
    line
    for column, methods in record["cells"].items()
    for method, found in methods.items()
    for line in lines_of(column, method, found)
  ]
  absent = [
    f"{column} {method} {published().get((column, method), '')}"
    for column, method in c2ot.ROWS
    if method not in record["cells"].get(column, {})
  ]
  if absent:
    rows += ["", "Not run here, with published figures (Euler-1, adaptive):"]
    rows += [f"- {row}" for row in absent]
  return "\n".join(
    [
      "# Conditions and couplings: Cheng and Schwing 2025, figure 1",
      "",
      f"`{record['command']}` on",
      f"{record['machine']}.",
      "",
      *protocol(),
      "Mean +- standard deviation over seeds; beside it the published figure.",
      "",
      "| condition | method | Euler-1 | published | adaptive | published |"
      " evaluations | seeds |",
      "|---|---|---|---|---|---|---|---|",
      *rows,
      "",
      *conclusion(record),
      "",
    ]
  )
