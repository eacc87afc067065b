"""Bridges between 2-D distributions: Tong et al. 2023 ([SF]2M), table 2.

  python -m benchmarks sf2m --seeds 5          half an hour of one core

arXiv:2307.03672. Points, measures and floor are those of benchmarks tong, which
also has the recipe of OT-CFM. Every cell (pair, method, seed) is stored in
runs/tables once it is finished, and a second call continues from there.
"""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner, trained
from benchmarks.published import cells, tong
from jaxgen import samplers

OURS = cells.FIGURES["recipes"]["jaxgen OT-CFM, ours"]
PLAIN = cells.FIGURES["recipes"]["plain"]
BROWNIAN = PLAIN | OURS | dict(bridge="brownian 1")
NARROW = BROWNIAN | dict(bridge="brownian .5")
GAME = dict(
  num_steps=5000,
  coupled_steps=1000,
  refresh=10,
  pool=32,
  width=64,
  ema_decay=0.999,
)
METHODS = {
  "floor": {},
  "OT-CFM": PLAIN | OURS,
  "SF2M-exact": BROWNIAN,
  "SF2M-exact, std .5": NARROW,
  "DSBM-IMF": GAME,
}


def settings(column: str, method: str, budget: float) -> dict:
  """The settings of a cell; the budget scales the steps."""
  how = dict(METHODS[method])
  if "coupling" in how:
    return how | dict(num_steps=cells.steps(budget, tong.NUM_STEPS, 100))
  for name in how.keys() & {"num_steps", "coupled_steps"}:
    how[name] = max(2, round(budget * how[name]))
  return how


def game(cell: runner.Cell, how: dict) -> dict:
  """The measures of the flow of DSBM's two drifts."""
  found = tong.points(cell.column, cell.seed)
  config = dataclasses.replace(
    trained.bridge.PRESETS["toy"][1],
    seed=cell.seed,
    warmup_steps=min(100, how["num_steps"] // 10),
    **how | dict(ema_decay=(how["ema_decay"],)),
  )
  like = trained.datasets.load_data("moons")
  points = (found[f"train_{name}"] for name in ("data", "source"))
  ends = (
    trained.on_points(like._replace(std=float(x.std())), x) for x in points
  )
  keys = jax.random.split(jax.random.key(cell.seed), 3)
  field = trained.drifts(config, *ends, keys)
  times = jnp.linspace(1.0, 0.0, 101)

  @jax.jit
  @jax.vmap
  def run(x):
    key = jax.random.key(0)  # not used
    return samplers.trajectory(samplers.euler(), field, x, times, key)

  return tong.measures(
    np.asarray(run(jnp.asarray(found["test_source"]))), found
  )


def measure(row: list[runner.Cell], how: dict) -> Iterable[dict]:
  """Values of cells of one column and method."""
  if row[0].method == "floor":
    return map(tong.floor, row)
  if row[0].method == "DSBM-IMF":
    return (game(cell, how) for cell in row)
  return tong.train(row[0].column, [cell.seed for cell in row], how)


def values(record: dict, column: str, method: str, kind: str) -> list[float]:
  """One measure of every seed, [] if there is none."""
  found = record["cells"].get(column, {}).get(method, [])
  return [value[kind] for value in found]


def measured(record: dict, kind: str, show) -> list[str]:
  """A table: rows measured here, then the published ones of the measure."""
  lines = []
  for method in METHODS:
    found = [values(record, c, method, kind) for c in tong.COLUMNS]
    if all(found):
      shown = [show(*pair) for pair in zip(tong.COLUMNS, found, strict=True)]
      lines.append((method, *shown, min(map(len, found))))
  head = " | ".join((kind.upper(), *tong.COLUMNS, "seeds"))
  published = cells.FIGURES["sf2m"][kind]
  number = lambda v: f"{v:.3f}"
  lines += [
    (f"published {name}", *map(number, row), 5)
    for name, row in published.items()
  ]
  return pages.table(head, lines)


def ratios(record: dict) -> list[str]:
  """W2 over the floor of the same points, its mean over seeds."""
  lines = []
  for method in METHODS:
    row = []
    for column in tong.COLUMNS:
      found = values(record, column, method, "w2")
      low = values(record, column, "floor", "w2")[: len(found)]
      row.append(f"{np.mean(found) / np.mean(low):.2f}" if found else "-")
    if "-" not in row and method != "floor":
      lines.append((method, *row))
  return pages.table(" | ".join(("W2 / floor", *tong.COLUMNS)), lines)


def tables(record: dict) -> dict:
  """The parts of the page."""
  plain = lambda column, found: cells.spread(found)
  return dict(
    made=f"`{record['command']}` on {record['machine']}.",
    npe=measured(record, "npe", plain),
    w2=measured(record, "w2", plain),
    ratios=ratios(record),
  )


_TABLE = runner.Table(
  tong.COLUMNS,
  lambda column: tuple(METHODS),
  settings,
  measure,
)
BENCHMARKS = {"sf2m": runner.of_cells("sf2m", _TABLE, tables, 5)}
