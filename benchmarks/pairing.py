"""What optimal pairing costs beside a train step, SciPy and POT; and what
score-matching losses cost beside the denoising loss.

  pip install -r benchmarks/requirements.txt          # for POT's column
  python -m benchmarks.pairing          about 5 minutes on two CPU cores

Pairing: from two clouds to a permutation, each time of a new batch, by
couplings.exact, by scipy.optimize.linear_sum_assignment on the squared
distances, by POT's emd on them, in turn; couplings.exact and a train step of
the digits U-Net at batch 256, in turn. Losses: a train step of the same
network, draws and optimizer with each loss, in turn. Writes
docs/results/pairing.md and pairing.json.
"""

import importlib.util
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy
from scipy import optimize
from scipy.spatial import distance

from benchmarks import results
from jaxgen import couplings, levels, paths, predictions
from jaxgen.data import digits, toy
from jaxgen.losses import denoising, score_matching
from jaxgen.models import mlp, unet
from jaxgen.training import ema, state, step

SIZES = (256, 512, 1024)
GOAL = 0.2
LOSSES = ("denoising", "sliced", "sliced_vr", "implicit")
STEP = "U-Net's step"


def networks():
  """{name: (model, shape of an example, batch size)}."""
  return {
    "MLP, 2-D": (mlp.MLP(), (2,), 256),
    "MLP, 64-D": (mlp.MLP(), (64,), 256),
    "U-Net, 8 x 8": (unet.UNet(attention=(4,)), (8, 8, 1), 32),
  }


def cloud_fns():
  """{name: (repetition, size) -> (data [N, D], source [N, D])}."""
  images = digits.load("train")[0].reshape(-1, 64)
  rings, moons = (
    jax.jit(jax.vmap(law.sample))
    for law in (toy.eight_gaussians(), toy.moons())
  )

  def digits_and_noise(i, size):
    rng = np.random.default_rng(i)
    rows = rng.choice(len(images), size, replace=False)
    return images[rows], rng.standard_normal((size, 64), "float32")

  def plane(i, size):
    keys = jax.random.split(jax.random.key(i), (2, size))
    return np.asarray(rings(keys[0])), np.asarray(moons(keys[1]))

  return {"64-D, digits": digits_and_noise, "2-D, 8 Gaussians": plane}


def by_scipy(data, source):
  """The assignment on squared distances, nothing before it."""
  cost = distance.cdist(data, source, "sqeuclidean")
  return optimize.linear_sum_assignment(cost)[1]


def by_pot(data, source):
  """POT's network simplex between uniform weights, its plan as an order."""
  import ot

  weights = np.full(len(data), 1 / len(data))
  plan = ot.emd(weights, weights, ot.dist(data, source))
  return plan.argmax(1)


def pairing_fns():
  """{name: (data, source) -> order}."""
  found = {"jaxgen": couplings.exact, "SciPy": by_scipy}
  if importlib.util.find_spec("ot") is not None:
    found["POT"] = by_pot
  return found


def in_turn(calls, repeats):
  """Seconds of call(i) in repetition i, [repeats, calls], each waited for."""
  for call in calls:
    jax.block_until_ready((call(0), call(0)))
  seconds = np.zeros((repeats, len(calls)))
  for i in range(repeats):
    for j in np.roll(np.arange(len(calls)), i):
      begun = time.perf_counter()
      jax.block_until_ready(calls[j](i))
      seconds[i, j] = time.perf_counter() - begun
  return seconds


def pairing(repeats):
  """A row a cloud and size; those of 256 beside the step too."""
  found = []
  model, shape, _ = networks()["U-Net, 8 x 8"]
  model = model.clone(num_classes=10)  # the preset's
  train = train_call(model, shape, 256, "denoising")
  for (name, clouds), size in itertools.product(cloud_fns().items(), SIZES):
    batches = [clouds(i, size) for i in range(repeats)]
    require_equal(batches[0])
    calls = {
      who: lambda i, pair=pair, batches=batches: pair(*batches[i])
      for who, pair in pairing_fns().items()
    }
    row = dict(name=name, size=size) | summary(
      calls, in_turn(list(calls.values()), repeats)
    )
    if size == 256:  # apart, as pairings take longer right after a step
      pair = {"jaxgen": calls["jaxgen"], STEP: train}
      beside = summary(pair, in_turn(list(pair.values()), repeats))
      for what in ("milliseconds", "ratios"):
        row[what][STEP] = beside[what][STEP]
    found.append(row)
  return found


def require_equal(clouds):
  """Refuses to time pairings that are not all optimal."""
  cost = couplings.costs(*clouds)
  rows = np.arange(len(cost))
  totals = [cost[rows, pair(*clouds)].sum() for pair in pairing_fns().values()]
  if not np.ptp(totals) < 1e-6 * max(totals):
    raise ValueError(f"pairing: expected equal costs, got {totals}")


def summary(calls, seconds):
  """Milliseconds of each, and the first over each other, with quartiles."""
  quartiles = np.quantile(seconds[:, :1] / seconds, [0.25, 0.5, 0.75], axis=0)
  names = list(calls)
  medians = (1e3 * np.median(seconds, 0)).tolist()
  return dict(
    milliseconds=dict(zip(names, medians, strict=True)),
    ratios=dict(zip(names, quartiles.T.tolist(), strict=True)),
  )


def loss_of(name, path):
  """(net, data, noise, t, direction) -> one example's loss, weight sigma^2."""

  def loss(net, data, noise, t, direction):
    score = lambda x, t: net(x, path.conditioning(t)) / path.sigma(t)
    if name == "denoising":
      return denoising.denoising(
        score,
        data,
        noise,
        t,
        path=path,
        prediction=predictions.score,
        weight=lambda t: path.sigma(t) ** 2,
      )
    x_t = path.alpha(t) * data + path.sigma(t) * noise
    of = getattr(score_matching, name)
    drawn = () if name == "implicit" else (direction,)
    return path.sigma(t) ** 2 * of(lambda x: score(x, t), x_t, *drawn)

  return loss


def train_call(model, shape, batch_size, loss):
  """call(i) -> the loss of one more step; Adam, clipped, an average."""
  path, one = paths.edm(), loss_of(loss, paths.edm())

  def loss_fn(params, key, batch):
    data, labels = batch
    t_key, noise_key, direction_key = jax.random.split(key, 3)
    t = levels.log_normal(t_key, path, (batch_size,))
    noise = jax.random.normal(noise_key, data.shape)
    direction = jax.random.rademacher(direction_key, data.shape, "float32")

    def example(data, label, noise, t, direction):
      label = label if model.num_classes else None
      net = lambda x, c: model.apply(params, x, c, label)
      return one(net, data, noise, t, direction)

    return jax.vmap(example)(data, labels, noise, t, direction).mean(), {}

  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(3e-3, b2=0.99)
  )
  turns = step.single(loss_fn, optimizer, {"0.999": ema.warmup(0.999)})
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape), 0.0)
  # Off the zeros of the last layers, whose products would cost less.
  params = jax.tree.map(lambda p: p + 0.01, params)
  rng = np.random.default_rng(0)
  data = rng.standard_normal((batch_size, *shape), "float32")
  labels = rng.integers(0, 10, batch_size).astype("int32")
  batch = jax.device_put((data, labels))
  train_step = step.make_train_step(turns)
  carry = [state.init(jax.random.key(1), {"model": params}, turns)]

  def call(i):
    carry[0], metrics = train_step(carry[0], {"model": batch})
    return metrics["loss"]

  return call


def losses(repeats):
  """A row a network: a step with each loss over one with denoising."""
  found = []
  for name, (model, shape, size) in networks().items():
    calls = {loss: train_call(model, shape, size, loss) for loss in LOSSES}
    few = repeats if len(shape) == 1 else max(repeats // 5, 3)
    seconds = in_turn(list(calls.values()), few)
    found.append(dict(name=name, size=size) | summary(calls, seconds))
  return found


def spread(ratios):
  """The median and its quartiles."""
  return f"{ratios[1]:.2f} ({ratios[0]:.2f}-{ratios[2]:.2f})"


def inverse(ratios):
  """Those of the inverse."""
  return [1 / r for r in reversed(ratios)]


def page(record):
  """The results page, from what pairing.json holds."""
  lines = [
    "# Pairing, and the cost of score-matching losses",
    "",
    f"`python -m benchmarks.pairing` on {record['machine']}.",
    "Columns of a row in turn, within one run; medians, and of ratios the",
    "quartiles too.",
    "",
    "## Optimal transport of a batch",
    "",
    "From two clouds to a permutation, costs included, a new batch each time:",
    "digits and normal noise, 8 Gaussians and moons. SciPy is",
    "linear_sum_assignment on the squared distances, POT is emd on them; all",
    "find the same least cost. The step is that of the digits U-Net at batch",
    "256 on the same cores, in turn with ours alone (which takes longer right",
    "after a step). In training a thread of the loader pairs ahead.",
    f"Goals: at most {GOAL:.2f} of the step in 64-D, below POT in both.",
    "",
    "| clouds | N | ms | / SciPy | / POT | / step |",
    "|---|---|---|---|---|---|",
  ]
  for r in record["pairing"]:
    of = lambda who, r=r: (
      spread(r["ratios"][who]) if who in r["ratios"] else "-"
    )
    lines.append(
      f"| {r['name']} | {r['size']} | {r['milliseconds']['jaxgen']:.2f} |"
      f" {of('SciPy')} | {of('POT')} | {of(STEP)} |"
    )
  if "POT" not in record["pairing"][0]["ratios"]:
    lines += ["", "POT is not installed: its column is left out."]
  names = LOSSES[1:]
  lines += [
    "",
    "## Losses",
    "",
    "A train step with each loss over one with the denoising loss: the same",
    "network, batch, draws, Adam and average. Sliced losses make one product",
    "with the Jacobian, implicit as many as an example has numbers.",
    "",
    f"| network | batch | denoising, ms | {' | '.join(names)} |",
    "|---|---|---|" + "---|" * len(names),
  ]
  for r in record["losses"]:
    cells = [spread(inverse(r["ratios"][loss])) for loss in names]
    lines.append(
      f"| {r['name']} | {r['size']} |"
      f" {r['milliseconds']['denoising']:.2f} | {' | '.join(cells)} |"
    )
  return "\n".join(lines) + "\n"


def main():
  """Measures, prints and writes."""
  args = results.parser(__doc__, repeats=40).parse_args()
  record = dict(
    machine=f"{results.machine()}, SciPy {scipy.__version__}",
    goal=GOAL,
    pairing=pairing(args.repeats),
    losses=losses(args.repeats),
  )
  results.write(args.out, "pairing", page(record), record)


if __name__ == "__main__":
  main()
