"""The pictures in docs/images that benchmarks draw."""

import pathlib

import numpy as np

from benchmarks import trained

IMAGES = pathlib.Path("docs/images")
GOALS = {11: 0.015, 19: 0.0035, 35: 0.0015}  # of few steps: {NFE: RMSE}
X, Y, INK = "#2a6f97", "#c8553d", "#3d3d3d"
CENTRED = dict(ha="center", va="center", fontsize=8)


def curves(found: dict[str, list], rows: list[dict]) -> None:
  """Error against NFE, a line a solver, the slope of its end in the legend."""
  figure, axis = trained.pyplot.subplots(figsize=(9, 5.6), layout="constrained")
  for i, name in enumerate(sorted(found, key=lambda k: -found[k][-1][1])):
    nfe, error = np.array(found[name]).T
    slope = np.polyfit(np.log(nfe[-3:]), np.log(error[-3:]), 1)[0]
    style = dict(linestyle=("-", "--", ":", "-.")[i // 10], color=f"C{i % 10}")
    style |= dict(marker="os^v"[i // 5], markersize=4, linewidth=1.3)
    axis.loglog(nfe, error, label=f"{name}  {slope:.1f}", **style)
  fits = [r for r in rows if r["solver"] == "unipc(2)" and r["fitted"]]
  errors = [row["fitted"]["mean"] for row in fits]
  label = "unipc(2), fitted grid"
  axis.plot([r["nfe"] for r in fits], errors, "kD--", markersize=5, label=label)
  goals = dict(markersize=10, label="goals (any grid)")
  axis.plot([*GOALS], [*GOALS.values()], "k*", **goals)
  last = max(points[-1][0] for points in found.values())
  ticks = [11, 19, 35, 79, 159, int(last)]
  axis.set_xticks(ticks, map(str, ticks))
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
  trained.figures.save(figure, IMAGES / "few_steps.png")


def trajectories(found: dict[str, np.ndarray]) -> None:
  """A panel a sampler: states over the standard deviation of unit data, on
  those of the first, the exact flow.
  """
  exact = next(iter(found.values()))
  figure, axes = trained.pyplot.subplots(
    1, len(found), figsize=(3 * len(found), 3.4), layout="constrained"
  )
  for axis, (title, states) in zip(axes, found.items(), strict=True):
    marker = None if states is exact else "o"
    for i, (own, true) in enumerate(zip(states, exact, strict=True)):
      color = f"C{i % 8}"
      axis.plot(*true.T, color="0.8", lw=3, zorder=1)
      axis.plot(*own.T, marker=marker, color=color, markersize=2.5, lw=1)
      axis.plot(*own[-1], "o", color=color, markersize=5, zorder=3)
    limits = np.array([[-2.2, 2.2]] * 2)
    trained.planes.window(axis, limits, states, "trajectories")
    axis.set(xticks=[], yticks=[], title=title)
    axis.label_outer()
  axes[-1].plot([], color="0.8", lw=3, label="exact flow")
  axes[-1].plot([], "o-", color="0.3", markersize=2.5, lw=1, label="sampler")
  axes[-1].legend(loc="upper right", fontsize=8)
  trained.figures.save(figure, IMAGES / "trajectories.png")


def guidance(found: dict[float, dict]) -> None:
  """guidance.png: accuracy against Frechet distance and coverage, by weight."""
  figure, axes = trained.pyplot.subplots(
    1, 2, figsize=(9, 4), layout="constrained"
  )
  rows = list(found.values())
  for axis, name, title in (
    (axes[0], "frechet", "Frechet distance (lower is better)"),
    (axes[1], "coverage", "coverage (higher is better)"),
  ):
    x, y = ([row[key] for row in rows] for key in (name, "accuracy"))
    axis.plot(x, y, "o-", color=X, label="samples, weight beside the point")
    for weight, *at in zip(found, x, y, strict=True):
      style = dict(textcoords="offset points", xytext=(6, -10), fontsize=8)
      axis.annotate(f"{weight:g}", at, **style)
    real = rows[0][f"{name}, real"], rows[0]["accuracy, real"]
    axis.plot(*real, "*", color=Y, markersize=12, label="real, held out")
    axis.set(xlabel=title, ylabel="label accuracy")
    axis.grid(alpha=0.3)
  axes[0].legend(frameon=False, loc="lower right")
  trained.figures.save(figure, IMAGES / "guidance.png")


def heat_map(axis, values, bright, **style):
  """Values as colours and numbers, the latter white where above `bright`."""
  shown = axis.imshow(values, aspect="auto", **style)
  for (i, j), value in np.ndenumerate(values):
    color = "white" if value > bright else INK
    axis.text(j, i, f"{value:.2f}", color=color, **CENTRED)
  axis.tick_params(length=0)
  axis.spines[:].set_visible(False)
  return shown


def plan_panel(axis, x, y, a, b, plan, pairs):
  """The plan as lines between the points, as thick as their mass."""
  for i, j in pairs:
    style = dict(alpha=0.45, lw=1 + 60 * plan[i, j], solid_capstyle="round")
    axis.plot(*np.stack([x[i], y[j]]).T, color=INK, **style)
  edge = dict(edgecolor="white", lw=1.5, zorder=3)
  axis.scatter(*x.T, s=2500 * a, color=X, **edge)
  axis.scatter(*y.T, s=2500 * b, color=Y, marker="s", **edge)


def price_panel(axis, x, y, cost, u, v, pairs):
  """Potentials as colours and numbers; on every line, what it costs."""
  white = dict(boxstyle="round,pad=0.1", fc="white", ec="none")
  taken = [*x, *y]
  for i, j in pairs:
    axis.plot(*np.stack([x[i], y[j]]).T, color=INK, alpha=0.5, lw=1)
    # Where on the line its number is furthest from points and other numbers.
    shares = np.linspace(0.3, 0.7, 9)[:, None]
    places = x[i] + shares * (y[j] - x[i])
    room = lambda at: np.linalg.norm(at - np.array(taken), axis=1).min()
    taken.append(max(places, key=room))
    text = f"{cost[i, j]:.2f}"
    axis.text(*taken[-1], text, bbox=white, zorder=2.5, **CENTRED)
  norm = trained.pyplot.Normalize(min(*u, *v), max(*u, *v))
  style = dict(cmap="RdYlBu_r", norm=norm, edgecolor=INK, lw=0.8, zorder=3)
  for points, values, marker in ((x, u, "o"), (y, v, "s")):
    axis.scatter(*points.T, s=520, c=values, marker=marker, **style)
    for at, value in zip(points, values, strict=True):
      color = "white" if abs(norm(value) - 0.5) > 0.4 else "black"
      axis.text(*at, f"{value:.2f}", color=color, zorder=4, **CENTRED)


def slack_panel(axis, slack, pairs, u, v):
  """c - u - v in the order of the prices, the plan's pairs marked."""
  rows, columns = np.argsort(u), np.argsort(v)
  ordered = slack[np.ix_(rows, columns)]
  heat_map(axis, ordered, 0.6 * slack.max(), cmap="Blues", vmin=0)
  i, j = np.argsort(rows)[pairs[:, 0]], np.argsort(columns)[pairs[:, 1]]
  axis.scatter(j, i, s=620, facecolor="none", edgecolor=INK, lw=1.5)
  axis.set_xticks(range(len(v)), [f"{value:.2f}" for value in v[columns]])
  axis.set_yticks(range(len(u)), [f"{value:.2f}" for value in u[rows]])
  axis.set(xlabel="v", ylabel="u")


def value_panel(axis, below, above, value):
  """Histograms of the values of potentials and of plans, and the optimum."""
  low, high = np.quantile(below, 0.05), np.quantile(above, 0.99)
  width = (high - low) / 100
  sides = (
    (below, np.arange(value, low, -width)[::-1], X, "potentials"),
    (above, np.arange(value, high, width), Y, "plans"),
  )
  for values, edges, color, name in sides:
    label = f"{len(values):,} feasible {name}"
    axis.hist(values, edges, color=color, alpha=0.85, lw=0, label=label)
  axis.axvline(value, color=INK, lw=2)
  axis.set(xlim=(low, high), yticks=[], ylabel="number")
  axis.set_xlabel(f"value; both optima: {value:.9f}")
  axis.legend(frameon=False)
  axis.spines[["top", "left", "right"]].set_visible(False)


def duality(name, points, solved, others) -> None:
  """duality.png: the plan, the prices, their slack, and both sides' values.

  Args:
    name: of the cost.
    points: x [N, 2], y [M, 2] and their weights a [N], b [M].
    solved: the pairs that the plan uses [K, 2], the plan, the cost and the
      slack [N, M], the prices u [N], v [M] and the value.
    others: values of feasible potentials and of feasible plans.
  """
  x, y, a, b = points
  pairs, plan, cost, slack, u, v, value = solved
  figure = trained.pyplot.figure(figsize=(13.5, 6.4), layout="constrained")
  axes = figure.subplot_mosaic(
    [["plan", "price", "slack"], ["value"] * 3],
    height_ratios=(4.2, 1),
  )
  plan_panel(axes["plan"], x, y, a, b, plan, pairs)
  price_panel(axes["price"], x, y, cost, u, v, pairs)
  for panel in ("plan", "price"):
    axes[panel].set(xticks=[], yticks=[], xlabel="$x_1$", ylabel="$x_2$")
    axes[panel].set_aspect("equal", adjustable="datalim")
    axes[panel].margins(0.12)
    axes[panel].spines[:].set_color("#cccccc")
  slack_panel(axes["slack"], slack, pairs, u, v)
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
  figure, axes = trained.pyplot.subplots(
    1, 5, figsize=(17, 4.05), layout="constrained"
  )
  for axis, row, found in zip(axes, rows, states, strict=True):
    for n, way in enumerate(found[:150]):
      label = "_" * (n > 0) + "trajectory"
      axis.plot(*way.T, color="C0", linewidth=0.6, alpha=0.5, label=label)
    start, end = dict(s=4, color="0.5"), dict(s=6, color="C3", zorder=3)
    axis.scatter(*found[:, 0].T, linewidths=0, label="start", **start)
    axis.scatter(*found[:, -1].T, linewidths=0, label="end", **end)
    limits = trained.planes.square(found[:, -1])
    trained.planes.window(axis, limits, found, "trajectories")
    axis.set(xticks=[], yticks=[])
    axis.label_outer()
    calls = f"{row['calls']} call{'s' if row['calls'] > 1 else ''}"
    axis.set_title(f"{row['name']}\n{row['solver']}, {calls}", fontsize=11)
  handles, names = axes[0].get_legend_handles_labels()
  legend = dict(loc="outside lower center", ncols=3, markerscale=3)
  figure.legend(handles, names, frameon=False, **legend)
  trained.figures.save(figure, IMAGES / "one_layer.png")


def unified(found: dict, paths, predictions, solvers: dict) -> None:
  """A heat map of Frechet distances for each solver."""
  values = {
    solver: np.array(
      [
        [found[f"{path}, {row}"][solver]["frechet"] for row in predictions]
        for path in paths
      ]
    )
    for solver in solvers
  }
  floor = found["edm, edm"]["heun"]["floor"]["frechet"]
  high = np.nanquantile([*values.values()], 0.9)
  figure, axes = trained.pyplot.subplots(
    1, len(solvers), figsize=(12, 3.6), sharey=True, layout="constrained"
  )
  for axis, (solver, value) in zip(axes, values.items(), strict=True):
    style = dict(cmap="viridis_r", vmin=floor, vmax=high)
    shown = heat_map(axis, value, (floor + high) / 2, **style)
    axis.set_xticks(range(len(predictions)), predictions)
    axis.set_yticks(range(len(paths)), paths)
    axis.set_title(f"{solver}, {solvers[solver]} steps")
    axis.set(xlabel="prediction", ylabel="path")
    axis.label_outer()
  bar = figure.colorbar(shown, ax=axes, extend="max")
  bar.set_label(f"Frechet distance (real: {floor:.2f})")
  trained.figures.save(figure, IMAGES / "unified.png")
