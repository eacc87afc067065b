"""The tables of benchmarks.published.tong."""

import numpy as np

from benchmarks import pages
from benchmarks.published import cells

COLUMNS = ("N->8gaussians", "moons->8gaussians", "N->moons", "N->scurve")
OURS, PEER = "jaxgen OT-CFM, ours", "torchcfm OT-CFM"
LIKE = "jaxgen OT-CFM"  # torchcfm's recipe, whose pairing alone is ours
BEST = "optimal map"


def values(record: dict, method: str, column: str, kind: str) -> dict:
  """{seed: value}."""
  found = record["cells"][method][column]
  return {v["seed"]: v[kind] for v in found}


def excess(record: dict, method: str, column: str) -> dict:
  """{seed: path energy over the optimal map's, less 1}, on the same points."""
  flow, best = (
    values(record, name, column, "signed") for name in (method, BEST)
  )
  return {
    seed: (1 + flow[seed]) / (1 + best[seed]) - 1
    for seed in flow
    if seed in best
  }


def table(title: str, measure, methods, published=()) -> list[str]:
  """A row of each method, of measure(method, column); then published rows."""
  lines = []
  for method in methods:
    found = [measure(method, column).values() for column in COLUMNS]
    lines.append((method, *map(cells.spread, found), min(map(len, found))))
  return pages.table(
    " | ".join((title, *COLUMNS, "seeds")), [*lines, *published]
  )


def measured(record: dict, kind: str) -> list[str]:
  """One measure: every row measured here, then the figures of others."""
  number = lambda v: v if v == "-" else f"{v:.3f}"
  published = [
    (method, *map(number, row), "-")
    for method, row in cells.FIGURES["tong"][kind].items()
  ]
  measure = lambda method, column: values(record, method, column, kind)
  return table(kind.upper(), measure, record["cells"], published)


def paired(record: dict, method: str = OURS) -> list[dict]:
  """A method of ours less torchcfm's OT-CFM, seed by seed."""
  rows = []
  for kind in ("w2", "npe"):
    for column in COLUMNS:
      ours, peer = (values(record, m, column, kind) for m in (method, PEER))
      gap = np.array([ours[seed] - peer[seed] for seed in ours if seed in peer])
      error = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else np.inf
      row = dict(measure=kind, column=column, gap=gap.mean(), error=error)
      row |= dict(wins=f"{(gap <= 0).sum()} of {len(gap)}")
      rows.append(row | dict(clear=abs(gap.mean()) > 2 * error))
  return rows


def paired_table(rows: list[dict]) -> list[str]:
  """The table of differences."""
  lines = []
  for r in rows:
    side = "lower" if r["gap"] <= 0 else "higher"
    said = f"clearly {side}" if r["clear"] else side
    name = f"{r['measure'].upper()}, {r['column']}"
    lines.append(
      (name, f"{r['gap']:+.3f}", f"{r['error']:.3f}", r["wins"], said)
    )
  head = "measure, column | jaxgen - torchcfm | standard error"
  return pages.table(f"{head} | seeds jaxgen is lower | ", lines)


def tally(rows: list[dict]) -> tuple[int, int, int]:
  """Cells at or below torchcfm's, clearly below, clearly above."""
  lower = sum(r["gap"] <= 0 for r in rows)
  clear = sum(r["clear"] and r["gap"] <= 0 for r in rows)
  return lower, clear, sum(r["clear"] for r in rows) - clear


def higher(record: dict, row: dict) -> str:
  """A line on a cell where ours is not the lower."""
  ours, peer, best = (
    np.mean([*values(record, name, row["column"], row["measure"]).values()])
    for name in (OURS, PEER, BEST)
  )
  return (
    f"Ours is above in {row['measure'].upper()}, {row['column']}: {ours:.3f},"
    f" torchcfm {peer:.3f}; the\noptimal map itself gets {best:.3f} there."
  )


def spreads(record: dict, method: str) -> str:
  """The spread of a flow's path energies over seeds, column by column."""
  each = [excess(record, method, column).values() for column in COLUMNS]
  return ", ".join(f"{np.std([*gap], ddof=1):.3f}" for gap in each)


def tables(record: dict) -> dict:
  """The parts of the page."""
  known = record["cells"].keys()
  found = dict(
    made=[f"`{record['command']}` on", f"{record['machine']}."],
    w2=measured(record, "w2"),
    npe=measured(record, "npe"),
  )
  if BEST in known:
    flows = [method for method in known if method not in ("floor", BEST)]
    found["excess"] = table(
      "path energy / the optimal map's - 1",
      lambda method, column: excess(record, method, column),
      flows,
    )
  if {OURS, LIKE, PEER, BEST} <= known:
    found |= comparison(record)
  return found


def comparison(record: dict) -> dict:
  """The parts that compare our two recipes with torchcfm's."""
  ours, like = paired(record, OURS), paired(record, LIKE)
  lower, clear, _ = tally(ours)
  low, clearly, above = tally(like)
  return dict(
    paired=paired_table(ours),
    ours=[
      f"In the mean ours is at or below torchcfm's OT-CFM in {lower} of",
      f"{len(ours)} cells, clearly in {clear}; the goal was all, and half of",
    ],
    higher=[higher(record, row) for row in ours if row["gap"] > 0],
    energies=[
      f"by {spreads(record, OURS)} (ours, the columns in order), by"
      f" {spreads(record, PEER)}"
    ],
    paired_like=paired_table(like),
    like=[
      f"mean at or below torchcfm's in {low} of {len(like)} cells, clearly in"
      f" {clearly}, and above in",
      f"{len(like) - low}, clearly in {above}. What 'ours' gains beyond that"
      " comes from what",
    ],
    energies_like=spreads(record, LIKE),
  )
