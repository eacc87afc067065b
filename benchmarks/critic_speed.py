"""Steps per second of a WGAN-GP critic, beside the same in torch eager.

  pip install -r benchmarks/requirements.txt          # for torch's columns
  python -m benchmarks.critic_speed                   # about two minutes

The critics of benchmarks.duals w1: perceptrons with a gradient penalty, whose
step differentiates twice. Both start from the same weights, the loss of one
batch is compared, and both are called in turn within one process, with all
cores. torch is measured with its fused Adam, and with the loop over parameters
that is its default on a CPU. Writes docs/results/critic_speed.md and
critic_speed.json.
"""

import importlib.metadata
import importlib.util
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import overhead, results, throughput
from experiments.lib import critics
from jaxgen.losses import wasserstein
from jaxgen.training import state, step

SIZES = ((2, 256), (16, 256), (16, 1024), (128, 256))  # dimension, batch
TOLERANCE = 1e-4
STEPS = 20  # of a round
ADAMS = {"fused": True, "default": False}  # of torch


def data(dim: int, size: int):
  """Two batches [B, D] and mixes [B]."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, size, dim)).astype("float32")
  return x, y + 1, rng.uniform(size=size).astype("float32")


def ours(dim: int, size: int):
  """(one training step, the loss of the batch, parameters)."""
  recipe = critics.RECIPES["gradient"]
  game = critics.make("gradient", recipe, dim)
  x, y, mix = data(dim, size)
  params = game.init(jax.random.key(0), x, y)
  train_step = step.make_train_step(game.turns)
  carry = [state.init(jax.random.key(1), params, game.turns)]
  batch = {"critic": jax.device_put((x, y, np.float32(1)))}

  def run():
    carry[0], metrics = train_step(carry[0], batch)
    return metrics["loss"]

  def one(x, y, mix):
    f = game.of(params)
    penalty = wasserstein.gradient_penalty(f, wasserstein.between(x, y, mix))
    return wasserstein.dual(f, x, y) + 10 * penalty

  loss = float(jnp.mean(jax.vmap(one)(x, y, mix)))
  return run, loss, params["critic"]["params"]


def theirs(dim: int, size: int, params, fused: bool):
  """(one training step, the loss of the batch), in torch."""
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  recipe = critics.RECIPES["gradient"]
  names, layers = ("hidden_0", "hidden_1", "out"), []
  for name in names:
    kernel, bias = (np.asarray(params[name][k]) for k in ("kernel", "bias"))
    layer = torch.nn.Linear(*kernel.shape)
    layer.weight.data = torch.tensor(kernel.T.copy())
    layer.bias.data = torch.tensor(bias.copy())
    layers += [layer, torch.nn.ReLU()]
  net = torch.nn.Sequential(*layers[:-1])
  x, y, mix = map(torch.from_numpy, data(dim, size))
  optimizer = torch.optim.Adam(
    net.parameters(), recipe.learning_rate, recipe.betas, fused=fused
  )

  def loss_of(mix):
    between = (mix[:, None] * x + (1 - mix[:, None]) * y).requires_grad_()
    (slope,) = torch.autograd.grad(
      net(between).sum(), between, create_graph=True
    )
    penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
    return net(y).mean() - net(x).mean() + 10 * penalty

  def run():
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(torch.rand(size))
    loss.backward()
    optimizer.step()

  return run, float(loss_of(mix).detach())


def measure(dim: int, size: int, rounds: int, peer: bool) -> list[dict]:
  """Milliseconds a step of both, the median ratio and its quartiles: a row of
  each of torch's optimizers.
  """
  run, loss, params = ours(dim, size)
  name, inner = f"D {dim}, batch {size}", STEPS
  mine = throughput.many(run, inner)
  if not peer:
    seconds = throughput.seconds(mine, rounds)
    return [dict(name=name, ours_ms=1e3 * seconds / inner)]
  rows = []
  for adam, fused in ADAMS.items():
    torch_run, torch_loss = theirs(dim, size, params, fused)
    if not abs(loss - torch_loss) < TOLERANCE * (1 + abs(loss)):
      raise ValueError(
        f"{name}: expected torch's loss {torch_loss}, got {loss}"
      )
    times = overhead.paired(mine, throughput.many(torch_run, inner), rounds)
    rows.append(overhead.row(name, times / inner, 1.0) | dict(adam=adam))
  return rows


def adam_lines(adams: set[str]) -> list[str]:
  """What torch's Adam is, and whether the faster one was measured."""
  lines = ["torch's default Adam loops over the parameters on a CPU."]
  if adams == {"default"}:
    lines += ["Its fused Adam was not measured, so torch could be faster here."]
  return lines


def page(record: dict) -> str:
  """The table as Markdown."""
  lines = [
    "# WGAN-GP critic steps beside torch eager",
    "",
    f"`{record['command']}`, {record['machine']}; torch {record['torch']}.",
    "",
    "Two hidden layers of max(2 D, 128), gradient penalty, Adam; same",
    "weights, same loss. Steps per second are medians over rounds of 20 steps,",
    "called in turn; below 1 the ratio of times says that ours is faster.",
    *adam_lines({row["adam"] for row in record["rows"] if "adam" in row}),
    "",
    "| critic | torch's Adam | jaxgen steps/s | torch steps/s | time ratio |"
    " quartiles |",
    "|---|---|---|---|---|---|",
  ]
  for row in record["rows"]:
    peer = " | | |"
    if "ratio" in row:
      peer = (
        f" {1e3 / row['theirs_ms']:.0f} | {row['ratio']:.2f} |"
        f" {row['low']:.2f} to {row['high']:.2f} |"
      )
    lines.append(
      f"| {row['name']} | {row.get('adam', '')} | {1e3 / row['ours_ms']:.0f} |"
      + peer
    )
  return "\n".join(lines) + "\n"


def main() -> None:
  """Measures, prints and writes."""
  args = results.parser(__doc__, rounds=21).parse_args()
  peer = importlib.util.find_spec("torch") is not None
  if not peer:
    print("torch is not installed: left out", file=sys.stderr)
  rows = [row for size in SIZES for row in measure(*size, args.rounds, peer)]
  record = dict(
    command="python -m benchmarks.critic_speed",
    machine=results.machine(),
    torch=importlib.metadata.version("torch") if peer else "not installed",
    rows=rows,
  )
  results.write(args.out, "critic_speed", page(record), record)


if __name__ == "__main__":
  main()
