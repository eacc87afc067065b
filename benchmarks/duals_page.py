"""The pages of benchmarks.duals."""

import statistics

from benchmarks import w1, w1_digits

# Korotin et al. 2022, result files: cosine, L2, W1 of each of FUNNELS.
PUBLISHED = {
  "clipping": (".07/.85/.03", ".33/6.9/1.72", ".15/3.4/.52", ".14/346/2.8"),
  "gradient": (".84/.09/.86", ".964/.091/2.07", ".785/.46/1.36", ".64/.74/.71"),
  "lipschitz": (
    ".82/.17/.89",
    ".964/.089/2.12",
    ".783/.46/1.35",
    ".62/.77/.69",
  ),
  "spectral": (".21/.74/.15", ".35/1.23/.63", ".16/1.32/.19", ".14/1.70/.19"),
  "orthogonal": (".77/.21/.76", ".971/.059/1.89", ".57/.77/.85", ".64/.73/.69"),
  "c_transform": (
    ".86/.07/.79",
    ".23/.96/.11",
    "-.03/1.12/-.05",
    "-.55/2.00/-.35",
  ),
  "max_min": (".80/1.29/.79", ".94/.19/1.96", ".62/1.92/1.74", ".24/4.7/.60"),
  "reversed": (".68/.53/.80", ".965/.071/2.06", ".73/.53/1.80", ".39/1.22/.56"),
}
NAMES = {
  "cones": "mix of cones (ours)",
  "features": "cones on orthogonal features (ours)",
  "gradient": "gradient penalty (GP)",
  "lipschitz": "one-sided penalty (LP)",
  "divergence": "WGAN-div",
  "orthogonal": "orthogonal, sorting (SO)",
  "spectral": "spectral norm (SN)",
  "clipping": "weight clipping (WC)",
  "c_transform": "c-transform of the batch (MM-B)",
  "max_min": "max-min (MM)",
  "reversed": "max-min, reversed (MM-R)",
}


def mean(values: list[dict], name: str) -> float:
  """Over seeds."""
  return statistics.fmean(value[name] for value in values)


def spread(values: list[dict], name: str) -> float:
  """Standard deviation over seeds; 0 of one."""
  found = [value[name] for value in values]
  return statistics.stdev(found) if len(found) > 1 else 0.0


def of_w1(record: dict) -> str:
  """The page of the W1 pairs."""
  lines = [
    "# W1: critics where the potential is known",
    "",
    _made(record),
    "",
    "Funnels of Korotin et al. 2022, arXiv:2206.07767: fresh pairs of the",
    "same law, one a seed. Cosine of the critic's gradient and the",
    "potential's, mean of their squared difference (L2) and the dual's value,",
    "on 4096 fresh draws of each law; beside the value stands what the true",
    "potential gets on those draws. CPU seconds are those of all cores,",
    "compilation included; a cell's steps are fixed. Published: GP and LP in",
    "60,000 steps of batches of 1024, here in 5000 of 256. Cones start with",
    "either law's tips drawn together: two trials of a tenth of the steps say",
    "which, by the dual on fresh draws; their seconds count. The mix has 64",
    "cones a family in D 2, 512 in D 16 and 768 in D 128, 2000 steps of 1024;",
    "no other critic has a setting but its width that depends on the pair, and",
    "no other is the better of two trials.",
    "",
    "**The truth of the funnels is a maximum of falling cones, and so lies in",
    "the class of the mix of cones. That of the swapped pairs is a minimum of",
    "rising ones, which the mix's other half holds, and that of the scaled",
    "pair a single cone. Outside the class are the shifted pair (a plane), the",
    "stretched one (four axes of sixteen scaled: a cone with an edge) and the",
    "images.**",
  ]
  for column, methods in record["cells"].items():
    lines += _w1_column(column, methods)
  return "\n".join(lines) + "\n"


def _w1_column(column, methods):
  any_row = next(iter(methods.values()))
  if column == w1_digits.COLUMN:
    return _w1_digits(column, methods, any_row)
  lines = [
    "",
    f"## {column}",
    "",
    f"W1 {mean(any_row, 'true'):.3f}; the true potential on these draws"
    f" {mean(any_row, 'sampled'):.3f}.",
    "",
    "| critic | cosine | L2 | value | CPU s | published cos/L2/W1 |",
    "|---|---|---|---|---|---|",
  ]
  for method, values in methods.items():
    said = ""
    if column in w1.FUNNELS and method in PUBLISHED:
      said = PUBLISHED[method][list(w1.FUNNELS).index(column)]
    fewer = len(values) < len(any_row)
    name = NAMES[method] + (
      f", {len(values)} of {len(any_row)} seeds" if fewer else ""
    )
    lines.append(
      f"| {name} | {mean(values, 'cosine'):.3f} ±"
      f" {spread(values, 'cosine'):.3f} | {mean(values, 'l2'):.3g} |"
      f" {mean(values, 'w1'):.3f} | {mean(values, 'cpu'):.0f} | {said} |"
    )
  return lines


MAPS = {
  "linear": "linear map of the samples' moments",
  "semi_dual": "semi-dual, Newton's conjugates (ours)",
  "max_min": "max-min",
  "makkuva": "Makkuva's minimax, convex potentials",
  "w2gn": "W2GN",
}
GOALS = {
  "Gaussian D16": 0.5,
  "log-sum-exp D8": 0.7,
  "log-sum-exp D16": 1.0,
  "hard D8": 3.0,
}


def _w1_digits(column, methods, any_row):
  lines = [
    "",
    f"## {column}",
    "",
    "Test images against noised ones; W1 is not known. Between the held-out",
    f"clouds of {any_row[0]['number']} the distance is exactly"
    f" {any_row[0]['clouds']:.3f}, above W1 on average.",
    "Of critics that are 1-Lipschitz by their form the larger value is the",
    "better; those with a penalty may lie above W1.",
    "",
    "| critic | value on held-out images | standard error | CPU s |",
    "|---|---|---|---|",
  ]
  for method, values in methods.items():
    lines.append(
      f"| {NAMES[method]} | {mean(values, 'value'):.3f} |"
      f" {mean(values, 'error'):.3f} | {mean(values, 'cpu'):.0f} |"
    )
  return lines


def of_w2(record: dict) -> str:
  """The page of the W2 pairs."""
  head = [
    "# W2: maps where the optimal one is known",
    "",
    _made(record),
    "",
    "Fresh pairs, one a seed, learned from draws that are not paired. L2-UVP",
    "is the map's squared error in percent of the target's variance on 8192",
    "fresh draws, the mean over seeds and each. CPU seconds are those of all",
    "cores, compilation included.",
    "",
    "The networks are perceptrons and input-convex networks, each with a",
    "quadratic term (maps: a linear one) whose matrix is learned: **the truth",
    "of the Gaussian pair lies in their class**, that of the others in none.",
  ]
  for column, methods in record["cells"].items():
    head += _w2_column(column, methods)
  return "\n".join(head) + "\n"


def _w2_column(column, methods):
  lines = [
    "",
    f"## {column}",
    "",
    f"Goal: UVP at most {GOALS[column]} %.",
    "",
    "| map | UVP % | seeds | cosine of displacement | cost / true | CPU s |",
    "|---|---|---|---|---|---|",
  ]
  for method, values in methods.items():
    each = ", ".join(f"{value['uvp']:.3g}" for value in values)
    lines.append(
      f"| {MAPS[method]} | {mean(values, 'uvp'):.3g} | {each} |"
      f" {mean(values, 'cosine'):.4f} | {mean(values, 'cost'):.3f} /"
      f" {mean(values, 'true'):.3f} | {mean(values, 'cpu'):.0f} |"
    )
  uvp = {method: mean(values, "uvp") for method, values in methods.items()}
  missed = [MAPS[m] for m, value in uvp.items() if value > GOALS[column]]
  best = MAPS[min(uvp, key=lambda method: uvp[method])]
  found = f"missed by: {'; '.join(missed)}" if missed else "met by all"
  return [
    *lines,
    "",
    f"The smallest UVP is that of: {best}. The goal is {found}.",
  ]


def _made(record):
  return f"`{record['command']}`, {record['machine']}."


GAMES = {
  "truth": "draws of the ring itself",
  "r3gan": "relativistic, R1 + R2 (R3GAN)",
  "non_saturating_r1_r2": "non-saturating, R1 + R2",
  "wgan_gp": "WGAN-GP, a step of the critic",
  "wgan_gp_5": "WGAN-GP, five steps of the critic",
  "original": "original",
  "non_saturating": "non-saturating",
  "least_squares": "least squares",
  "hinge": "hinge",
}


def _unchosen(methods):
  """The shares without the seed that rates were chosen on."""
  shares = {
    method: mean(values[1:], "good")
    for method, values in methods.items()
    if method != "truth" and len(values) > 1
  }
  if not shares:
    return []
  found = ", ".join(f"{GAMES[m]} {share:.3f}" for m, share in shares.items())
  return [f"Without seed 0 the shares within 3 std are: {found}."]


def of_ring(record: dict) -> str:
  """The page of the ring."""
  (methods,) = record["cells"].values()
  lines = [
    "# GANs on eight narrow Gaussians",
    "",
    _made(record),
    "",
    "Radius 2, std .1. The same perceptrons, batches and 16,000 updates of",
    "both players together for every objective (experiments.gan, preset ring);",
    "a sample is one call of the generator's average. A mode is covered if it",
    "has at least a quarter of its share of the 10,000 samples within three",
    "std; balance is the smallest and the largest share of a mode. An average",
    "of the generator narrows the modes, which the std of those within shows.",
    "Learning rates: 1e-2 with R1 + R2 and with five steps of the critic, 3e-3",
    "with one, 1e-3 without a penalty (1e-2 is worse for all four, 1e-4 too by",
    "the share within).",
    "",
    "**Those of all but R3GAN were chosen on seed 0, which is one of the seeds",
    "below: the first figure of a row is not independent of the choice.**",
    *_unchosen(methods),
    "",
    "| objective | modes | within 3 std | seeds | balance | std | CPU s |",
    "|---|---|---|---|---|---|---|",
  ]
  for method, values in methods.items():
    each = ", ".join(f"{value['good']:.3f}" for value in values)
    modes = ", ".join(f"{value['modes']:g}" for value in values)
    lines.append(
      f"| {GAMES[method]} | {modes} | {mean(values, 'good'):.3f} | {each} |"
      f" {mean(values, 'least'):.3f} to {mean(values, 'most'):.3f} |"
      f" {mean(values, 'std'):.3f} |"
      f" {mean(values, 'cpu'):.0f} |"
    )
  return "\n".join(lines) + "\n"
