"""What optimal pairing costs beside a train step, SciPy and POT; and what
score-matching losses cost beside the denoising loss.

  pip install -r benchmarks/requirements.txt          # for POT's column
  python -m benchmarks pairing          about 13 minutes on two busy cores

Pairing: from two clouds to a permutation, of a new batch each time, by
couplings.exact, by scipy.optimize.linear_sum_assignment on the squared
distances (up to 2048 points) and by POT's emd on them, in turn; then
couplings.exact and a train step of the digits U-Net at batch 256, in turn.
Losses: a train step of one network, batch and optimizer with each loss, in
turn.
"""

import functools
import itertools

import jax
import numpy as np
import optax
import scipy
from scipy import optimize
from scipy.spatial import distance

from benchmarks import pages, runner
from benchmarks.speed import overhead, timing
from jaxgen import couplings, levels, paths, predictions
from jaxgen.data import digits, toy
from jaxgen.losses import denoising, score_matching
from jaxgen.models import mlp, unet
from jaxgen.training import ema, state, step

# Rounds for each number of points, relative to --repeats.
REPEATS = {256: 1.0, 512: 1.0, 1024: 0.3, 2048: 0.12, 4096: 0.08}
GOAL = 0.7
LOSSES = ("denoising", "sliced", "sliced_vr", "implicit")
STEP = "U-Net's step"
FASTER = "faster"


def networks():
  """{name: (model, shape of an example, batch size)}."""
  return {
    "MLP, 2-D": (mlp.MLP(), (2,), 256),
    "MLP, 64-D": (mlp.MLP(), (64,), 256),
    "U-Net, 8 x 8": (unet.UNet(attention=(4,)), (8, 8, 1), 32),
  }


def cloud_fns():
  """{name: (repetition, size) -> (data [N, D], source [N, D])}."""
  images = digits.load("train")[0].reshape(-1, 8, 8)
  rings, moons = (
    jax.jit(jax.vmap(distribution.sample))
    for distribution in (toy.eight_gaussians(), toy.moons())
  )

  def plane(i, size):
    keys = jax.random.split(jax.random.key(i), (2, size))
    return np.asarray(rings(keys[0])), np.asarray(moons(keys[1]))

  def digits_and_noise(i, size, side=8):
    """Digits, shifted at random, so that there are enough different ones."""
    rng = np.random.default_rng(i)
    found = images[rng.integers(len(images), size=size)]
    shifts = rng.integers(-1, 2, (size, 2))
    pairs = zip(found, shifts, strict=True)
    found = np.stack([np.roll(image, by, (0, 1)) for image, by in pairs])
    if side > 8:
      found = np.asarray(jax.image.resize(found, (size, side, side), "linear"))
    noise = rng.standard_normal((size, side**2), "float32")
    return found.reshape(size, -1), noise

  return {
    "2-D, 8 Gaussians": plane,
    "64-D, digits": digits_and_noise,
    "784-D, digits": functools.partial(digits_and_noise, side=28),
  }


def by_scipy(data, source):
  """SciPy's assignment on squared distances."""
  cost = distance.cdist(data, source, "sqeuclidean")
  return optimize.linear_sum_assignment(cost)[1]


def by_pot(data, source):
  """POT's network simplex between uniform weights, as a permutation."""
  import ot

  weights = np.full(len(data), 1 / len(data))
  # With its default, POT stops before the optimum at 4096 points.
  plan = ot.emd(weights, weights, ot.dist(data, source), numItermax=10**8)
  return plan.argmax(1)


def pairing_fns(size=0):
  """{name: (data, source) -> order}; SciPy's up to 2048 points."""
  found = {"jaxgen": couplings.exact}
  if size <= 2048:
    found["SciPy"] = by_scipy
  if timing.version("POT"):
    found["POT"] = by_pot
  return found


def pairing(repeats):
  """A row for each cloud and size; 256 pairs are timed beside the step too."""
  found = []
  model, shape, _ = networks()["U-Net, 8 x 8"]
  model = model.clone(num_classes=10)  # the preset's
  train = train_call(model, shape, 256, "denoising")
  for (name, clouds), size in itertools.product(cloud_fns().items(), REPEATS):
    few = max(round(REPEATS[size] * repeats), 3)
    batches = [clouds(i, size) for i in range(few)]
    fns = pairing_fns(size)
    require_equal(batches[0], fns)
    calls = {who: each_time_another(pair, batches) for who, pair in fns.items()}
    row = dict(name=name, size=size, repeats=few) | summary(calls, few, warm=0)
    if size == 256:  # apart, as pairings take longer right after a step
      beside = summary({"jaxgen": calls["jaxgen"], STEP: train}, repeats)
      for what in ("milliseconds", "ratios"):
        row[what][STEP] = beside[what][STEP]
    found.append(row)
    print(name, size, flush=True)
  return found


def require_equal(clouds, fns):
  """Raises ValueError if the pairings differ in cost."""
  cost = couplings.costs(*clouds)
  rows = np.arange(len(cost))
  totals = [cost[rows, pair(*clouds)].sum() for pair in fns.values()]
  if not np.ptp(totals) < 1e-6 * max(totals):
    raise ValueError(f"pairing: expected equal costs, got {totals}")


def each_time_another(pair, batches):
  """() -> the pairing of the next batch, in a cycle."""
  ahead = itertools.cycle(batches)
  return lambda: pair(*next(ahead))


def summary(calls, repeats, warm=2):
  """Milliseconds of each call, and quartiles of the first over each."""
  seconds = timing.in_turn(calls.values(), repeats, warm)
  names, peers = list(calls), [n for n in calls if n in ("SciPy", "POT")]
  medians = (1e3 * np.median(seconds, 0)).tolist()
  if peers:  # the peer that is faster by the median
    best = min(peers, key=lambda n: medians[names.index(n)])
    seconds = np.c_[seconds, seconds[:, names.index(best)]]
    medians, names = [*medians, medians[names.index(best)]], [*names, FASTER]
  quartiles = np.quantile(seconds[:, :1] / seconds, timing.QUARTILES, axis=0)
  return dict(
    milliseconds=dict(zip(names, medians, strict=True)),
    ratios=dict(zip(names, quartiles.T.tolist(), strict=True)),
  )


def train_call(model, shape, batch_size, loss):
  """() -> the loss of one more step, with clipping, Adam and an average."""
  path = paths.edm()
  weight = lambda t: path.sigma(t) ** 2

  def loss_fn(params, key, batch):
    data, labels = batch
    t_key, noise_key, direction_key = jax.random.split(key, 3)
    t = levels.log_normal(t_key, path, (batch_size,))
    noise = jax.random.normal(noise_key, data.shape)
    direction = jax.random.rademacher(direction_key, data.shape, "float32")

    def example(data, label, noise, t, direction):
      label = label if model.num_classes else None
      net = lambda x, c: model.apply(params, x, c, label)
      score = lambda x, t: net(x, path.conditioning(t)) / path.sigma(t)
      if loss == "denoising":
        how = dict(path=path, prediction=predictions.score, weight=weight)
        return denoising.denoising(score, data, noise, t, **how)
      x_t = path.alpha(t) * data + path.sigma(t) * noise
      probes = () if loss == "implicit" else (direction,)
      of = getattr(score_matching, loss)
      return weight(t) * of(lambda x: score(x, t), x_t, *probes)

    return jax.vmap(example)(data, labels, noise, t, direction).mean(), {}

  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(3e-3, b2=0.99)
  )
  turns = step.single(loss_fn, optimizer, {"0.999": ema.warmup(0.999)})
  params = overhead.init(model, shape)
  rng = np.random.default_rng(0)
  data = rng.standard_normal((batch_size, *shape), "float32")
  labels = rng.integers(0, 10, batch_size).astype("int32")
  batch = jax.device_put((data, labels))
  start = state.init(jax.random.key(1), {"model": params}, turns)
  return timing.stepping(step.make_train_step(turns), start, {"model": batch})


def losses(repeats):
  """A row for each network: a step with each loss."""
  found = []
  for name, (model, shape, size) in networks().items():
    calls = {loss: train_call(model, shape, size, loss) for loss in LOSSES}
    few = repeats if len(shape) == 1 else max(repeats // 5, 3)
    found.append(dict(name=name, size=size) | summary(calls, few))
  return found


def run(args) -> dict:
  """Measures pairings and losses."""
  return dict(
    machine=f"{runner.machine()}, SciPy {scipy.__version__}",
    goal=GOAL,
    pairing=pairing(args.repeats),
    losses=losses(args.repeats),
  )


def tables(record: dict) -> dict:
  """The parts of the page."""
  pairs, costs, names = [], [], LOSSES[1:]
  for r in record["pairing"]:
    of = {who: timing.spread(*ratios) for who, ratios in r["ratios"].items()}
    cells = [of.get(who, "-") for who in ("SciPy", "POT", FASTER, STEP)]
    milliseconds = f"{r['milliseconds']['jaxgen']:.2f}"
    pairs.append((r["name"], r["size"], r["repeats"], milliseconds, *cells))
  for r in record["losses"]:
    inverses = ([1 / v for v in reversed(r["ratios"][k])] for k in names)
    milliseconds = f"{r['milliseconds']['denoising']:.2f}"
    cells = [timing.spread(*quartiles) for quartiles in inverses]
    costs.append((r["name"], r["size"], milliseconds, *cells))
  lines = pages.table(
    "clouds | N | rounds | ms | / SciPy | / POT | / the faster | / step", pairs
  )
  if "POT" not in record["pairing"][0]["ratios"]:
    lines += ["", "POT is not installed: its column is left out."]
  head = "network | batch | denoising, ms"
  return dict(
    made=f"`python -m benchmarks pairing` on {record['machine']}.",
    pairing=lines,
    losses=pages.table(f"{head} | {' | '.join(names)}", costs),
  )


BENCHMARKS = {"pairing": runner.Benchmark(run, tables, dict(repeats=30))}
