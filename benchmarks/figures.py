"""The pictures in docs/images that benchmarks draw."""

import pathlib

import numpy as np

from benchmarks import trained

plt = trained.figures.plt
IMAGES = pathlib.Path("docs/images")
GOALS = {11: 0.015, 19: 0.0035, 35: 0.0015}  # of few steps: {NFE: RMSE}
X, Y, INK = "#2a6f97", "#c8553d", "#3d3d3d"
USED = 1e-12  # the mass from which on a plan is said to use a pair


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
  trained.figures.save(figure, path)


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
  trained.figures.save(figure, path)


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


def duality(name, x, y, a, b, plan, cost, u, v, slack, others, value):
  """duality.png: the plan, the prices, their slack, and both sides' values."""
  n, m = slack.shape
  figure = plt.figure(figsize=(13.5, 6.4), layout="constrained")
  axes = figure.subplot_mosaic(
    [["plan", "price", "slack"], ["value"] * 3],
    height_ratios=(4.2, 1),
    width_ratios=(1, 1, 0.95),
  )
  plan_panel(axes["plan"], x, y, a, b, plan)
  price_panel(axes["price"], x, y, plan, cost, u, v)
  for panel in ("plan", "price"):
    axes[panel].set(xticks=[], yticks=[])
    axes[panel].set_aspect("equal", adjustable="datalim")
    axes[panel].margins(0.12)
    axes[panel].spines[:].set_color("#cccccc")
  rows, columns = np.argsort(u), np.argsort(v)
  order = np.ix_(rows, columns)
  slack_panel(axes["slack"], plan[order], slack[order])
  axes["slack"].set_xticks(range(m), [f"{value:.2f}" for value in v[columns]])
  axes["slack"].set_yticks(range(n), [f"{value:.2f}" for value in u[rows]])
  axes["slack"].set(xlabel="v", ylabel="u")
  value_panel(axes["value"], *others, value)
  titles = dict(
    plan=f"Primal: the plan of least cost {name}\ntotal {value:.9f}",
    price=f"Dual: prices u (round), v (square)\ntotal {u @ a + v @ b:.9f};"
    " u + v is the cost on every line",
    slack="Slack c - u - v, nowhere below zero\nzero where the plan sends mass",
  )
  for panel, title in titles.items():
    axes[panel].set_title(title, fontsize=11, loc="left")
  trained.figures.save(figure, IMAGES / "duality.png")


def one_layer(rows: list[dict], states: list[np.ndarray]) -> None:
  """A panel a field: every particle's way, and where it ends."""
  figure, axes = plt.subplots(1, 5, figsize=(17, 4.05), layout="constrained")
  for axis, row, found in zip(axes, rows, states, strict=True):
    limit = 1.2 * np.abs(found[:, -1]).max()
    for way in found[:150]:
      axis.plot(*way.T, color="C0", linewidth=0.6, alpha=0.5)
    axis.scatter(*found[:, 0].T, s=4, color="0.5", linewidths=0)
    axis.scatter(*found[:, -1].T, s=6, color="C3", linewidths=0, zorder=3)
    axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    axis.set_xticks([])
    axis.set_yticks([])
    calls = f"{row['calls']} call{'s' if row['calls'] > 1 else ''}"
    axis.set_title(f"{row['name']}\n{row['solver']}, {calls}", fontsize=11)
  trained.figures.save(figure, IMAGES / "one_layer.png")


def unified(found: dict, paths, predictions, solvers: dict) -> None:
  """A heat map a solver, and the other rows below."""
  table = lambda solver: np.array(
    [
      [found[f"{p}, {q}"][solver]["frechet"] for q in predictions]
      for p in paths
    ]
  )
  floor = found["edm, edm"]["heun"]["floor"]["frechet"]
  figure, axes = plt.subplots(
    1, len(solvers), figsize=(12, 3.6), sharey=True, layout="constrained"
  )
  values = {solver: table(solver) for solver in solvers}
  high = np.nanquantile([*values.values()], 0.9)
  for axis, (solver, value) in zip(axes, values.items(), strict=True):
    shown = axis.imshow(
      value, cmap="viridis_r", vmin=floor, vmax=high, aspect="auto"
    )
    for (i, j), number in np.ndenumerate(value):
      color = "white" if number > (floor + high) / 2 else "black"
      axis.text(j, i, f"{number:.2f}", ha="center", va="center", color=color)
    axis.set_xticks(range(len(predictions)), predictions)
    axis.set_yticks(range(len(paths)), paths)
    axis.set_title(f"{solver}, {solvers[solver]} steps")
    axis.tick_params(length=0)
  bar = figure.colorbar(shown, ax=axes, extend="max")
  bar.set_label(f"Frechet distance (real: {floor:.2f})")
  trained.figures.save(figure, IMAGES / "unified.png")
