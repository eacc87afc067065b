"""Duality of optimal transport, seen: a plan and the prices that prove it.

  python -m benchmarks.duality          some seconds on a CPU core

Two clouds on the plane with weights. The plan of least cost and the potentials
of greatest value are each found by a linear programme of their own
(jaxgen.metrics.duality). Mass goes only where both prices pay the whole way.

Writes duality.md, duality.json in docs/results and docs/images/duality.png.
"""

import pathlib

import numpy as np

from benchmarks import results
from experiments.lib import figures
from jaxgen.metrics import duality

FIGURE = pathlib.Path("docs/images/duality.png")
SIZES = ((10, 10), (30, 20), (100, 100))
COSTS = {
  "|x - y|": lambda x, y: np.linalg.norm(x[:, None] - y, axis=-1),
  "|x - y|^2": lambda x, y: ((x[:, None] - y) ** 2).sum(-1),
}
DRAWS = 200  # of feasible potentials and plans a row; 20 times as many drawn
USED = 1e-12  # the mass from which on a plan is said to use a pair
X, Y, INK = "#2a6f97", "#c8553d", "#3d3d3d"
plt = figures.plt


def clouds(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, ...]:
  """Points x [n, 2], y [m, 2] in two boxes that overlap, and their weights."""
  rng = np.random.default_rng(seed)
  x, y = rng.uniform(0, 1, (n, 2)), rng.uniform([0.5, 0.2], [1.5, 1.2], (m, 2))
  return x, y, rng.dirichlet(np.full(n, 3.0)), rng.dirichlet(np.full(m, 3.0))


def measure(name: str, n: int, m: int) -> dict:
  """One row: both values, their gap, and the slacks."""
  x, y, a, b = clouds(n, m)
  cost = COSTS[name](x, y)
  primal, dual = duality.primal(cost, a, b), duality.dual(cost, a, b)
  slack, used = duality.slack(cost, dual.first, dual.second), primal.plan > USED
  below, above = feasible(cost, a, b, primal, dual, DRAWS)
  return dict(
    cost=name,
    n=n,
    m=m,
    primal=primal.value,
    dual=dual.value,
    gap=primal.value - dual.value,
    pairs=int(used.sum()),
    slack_on_support=float(np.abs(slack[used]).max()),
    least_slack=float(slack.min()),
    best_potentials=float(below.max()),
    best_plan=float(above.min()),
  )


def feasible(cost, a, b, primal, dual, draws):
  """Values of potentials and of plans that are feasible and not the best.

  Potentials: u* + noise of any size, and its c-transform. Plans: part of the
  best, part of one of random masses with the same margins.
  """
  rng = np.random.default_rng(1)
  noise = rng.standard_normal((draws, len(a), 1)) * cost.std()
  u = dual.first[:, None] + noise * rng.uniform(0, 1, (draws, 1, 1))
  below = u[..., 0] @ a + (cost - u).min(1) @ b
  plan = rng.exponential(size=(draws, *cost.shape))
  for _ in range(100):
    plan *= a[:, None] / plan.sum(2, keepdims=True)
    plan *= b / plan.sum(1, keepdims=True)
  share = rng.uniform(0, 1, draws)
  above = share * (plan * cost).sum((1, 2)) + (1 - share) * primal.value
  return below, above


def page(record: dict) -> str:
  """docs/results/duality.md."""
  lines = [
    "# Duality",
    "",
    f"`python -m benchmarks.duality` on {record['machine']}. Seed 0"
    " in the table; the",
    "figure's is one whose points and lines lie apart.",
    "",
    "![A plan, its potentials and their slack](../images/duality.png)",
    "",
    "The primal programme seeks the plan of least cost; the dual one, prices u",
    "and v of greatest value that nowhere sum to more than the cost. Every row",
    "solves both, each on its own. They meet, and where they do the plan uses",
    "only pairs of slack c - u - v = 0: fewer than N + M of the N M. Of other",
    f"potentials and plans, {DRAWS:,} each, none comes to the other side.",
    "",
    "| cost | N x M | primal | dual | gap | pairs used | most slack on them |"
    " least slack | other potentials, at most | other plans, at least |",
    "|---" * 10 + "|",
  ]
  for r in record["rows"]:
    lines.append(
      f"| {r['cost'].replace('|', chr(92) + '|')} | {r['n']} x {r['m']} |"
      f" {r['primal']:.9f} | {r['dual']:.9f} | {r['gap']:.0e} | {r['pairs']} |"
      f" {r['slack_on_support']:.0e} | {r['least_slack']:.0e} |"
      f" {r['best_potentials']:.5f} | {r['best_plan']:.5f} |"
    )
  return "\n".join(lines) + "\n"


def plan_panel(axis, x, y, a, b, plan):
  """The plan as lines between the points, as thick as their mass."""
  for i, j in np.argwhere(plan > USED):
    ends = np.stack([x[i], y[j]])
    width = 1 + 60 * plan[i, j]
    axis.plot(*ends.T, color=INK, alpha=0.45, lw=width, solid_capstyle="round")
  axis.scatter(*x.T, s=2500 * a, color=X, edgecolor="white", lw=1.5, zorder=3)
  axis.scatter(
    *y.T, s=2500 * b, color=Y, marker="s", edgecolor="white", lw=1.5, zorder=3
  )


def price_panel(axis, x, y, plan, cost, u, v):
  """Potentials as colours and numbers; on every line, what it costs."""
  white = dict(boxstyle="round,pad=0.1", fc="white", ec="none")
  centred = dict(ha="center", va="center", fontsize=8)
  taken = [*x, *y]
  for i, j in np.argwhere(plan > USED):
    axis.plot(*np.stack([x[i], y[j]]).T, color=INK, alpha=0.5, lw=1)
    # Where on the line its number is furthest from points and other numbers.
    places = [
      x[i] + share * (y[j] - x[i]) for share in np.linspace(0.3, 0.7, 9)
    ]
    room = lambda at: min(np.linalg.norm(at - other) for other in taken)
    taken.append(max(places, key=room))
    axis.text(
      *taken[-1], f"{cost[i, j]:.2f}", bbox=white, zorder=2.5, **centred
    )
  both = np.append(u, v)
  norm = plt.Normalize(both.min(), both.max())
  style = dict(cmap="RdYlBu_r", norm=norm, edgecolor=INK, lw=0.8, zorder=3)
  for points, values, marker in ((x, u, "o"), (y, v, "s")):
    axis.scatter(*points.T, s=520, c=values, marker=marker, **style)
    for at, value in zip(points, values, strict=True):
      color = "white" if abs(norm(value) - 0.5) > 0.4 else "black"
      axis.text(*at, f"{value:.2f}", color=color, zorder=4, **centred)


def slack_panel(axis, plan, slack):
  """The matrix c - u - v, the plan's support marked."""
  shown = axis.imshow(slack, cmap="Blues", vmin=0, aspect="auto")
  for (i, j), value in np.ndenumerate(slack):
    if plan[i, j] > USED:
      axis.scatter(j, i, s=330, color=INK, zorder=2)
      axis.text(
        j, i, "0", color="white", ha="center", va="center", weight="bold"
      )
    else:
      color = "white" if value > 0.6 * slack.max() else INK
      axis.text(
        j, i, f"{value:.2f}", color=color, fontsize=8, ha="center", va="center"
      )
  axis.tick_params(length=0)
  axis.spines[:].set_visible(False)
  return shown


def value_panel(axis, below, above, value):
  """Every pair of potentials on one side, every plan on the other."""
  low, high = np.quantile(below, 0.05), np.quantile(above, 0.99)
  width = (high - low) / 100
  sides = (
    (below, np.arange(value, low, -width)[::-1], X, "potentials", "right", -1),
    (above, np.arange(value, high, width), Y, "plans", "left", 1),
  )
  for values, edges, color, of, align, sign in sides:
    axis.hist(values, edges, color=color, alpha=0.85, lw=0)
    axis.annotate(
      f"{len(values):,} feasible {of}",
      (value, 1),
      (12 * sign, 10),
      xycoords=("data", "axes fraction"),
      textcoords="offset points",
      color=color,
      ha=align,
    )
  top = axis.get_ylim()[1]
  axis.plot([value, value], [0, 1.15 * top], color=INK, lw=2, clip_on=False)
  axis.set(xlim=(low, high), ylim=(0, top), yticks=[])
  axis.set_xlabel(f"value; both optima: {value:.9f}")
  axis.spines[["top", "left", "right"]].set_visible(False)


def picture(name: str = "|x - y|^2", n: int = 7, m: int = 6, seed: int = 15461):
  """docs/images/duality.png; of a seed whose points and lines lie apart."""
  x, y, a, b = clouds(n, m, seed)
  cost = COSTS[name](x, y)
  primal, dual = duality.primal(cost, a, b), duality.dual(cost, a, b)
  # A constant moved from one to the other changes nothing: equal means.
  shift = (dual.second.mean() - dual.first.mean()) / 2
  u, v = dual.first + shift, dual.second - shift
  figure = plt.figure(figsize=(13.5, 6.4), layout="constrained")
  axes = figure.subplot_mosaic(
    [["plan", "price", "slack"], ["value"] * 3],
    height_ratios=(4.2, 1),
    width_ratios=(1, 1, 0.95),
  )
  plan_panel(axes["plan"], x, y, a, b, primal.plan)
  price_panel(axes["price"], x, y, primal.plan, cost, u, v)
  for panel in ("plan", "price"):
    axes[panel].set(xticks=[], yticks=[])
    axes[panel].set_aspect("equal", adjustable="datalim")
    axes[panel].margins(0.12)
    axes[panel].spines[:].set_color("#cccccc")
  rows, columns = np.argsort(u), np.argsort(v)
  order = np.ix_(rows, columns)
  slack = duality.slack(cost, u, v)
  slack_panel(axes["slack"], primal.plan[order], slack[order])
  axes["slack"].set_xticks(range(m), [f"{value:.2f}" for value in v[columns]])
  axes["slack"].set_yticks(range(n), [f"{value:.2f}" for value in u[rows]])
  axes["slack"].set(xlabel="v", ylabel="u")
  others = feasible(cost, a, b, primal, dual, 20 * DRAWS)
  value_panel(axes["value"], *others, primal.value)
  titles = dict(
    plan=f"Primal: the plan of least cost {name}\ntotal {primal.value:.9f}",
    price=f"Dual: prices u (round), v (square)\ntotal {dual.value:.9f};"
    " u + v is the cost on every line",
    slack="Slack c - u - v, nowhere below zero\nzero where the plan sends mass",
  )
  for panel, title in titles.items():
    axes[panel].set_title(title, fontsize=11, loc="left")
  figures.save(figure, FIGURE)


def main() -> None:
  """Solves, draws and writes."""
  args = results.parser(__doc__).parse_args()
  found = [measure(name, n, m) for name in COSTS for n, m in SIZES]
  picture()
  record = dict(machine=results.machine(), rows=found)
  results.write(args.out, "duality", page(record), record)


if __name__ == "__main__":
  main()
