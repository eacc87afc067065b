"""Train steps: a critic's beside torch, and what a device holds and sends.

  pip install -r benchmarks/requirements.txt          # for torch's columns
  python -m benchmarks critic_speed                   # about two minutes
  JAX_NUM_CPU_DEVICES=8 python -m benchmarks devices  # about a minute

critic_speed: the critics of w1, perceptrons with a gradient penalty, whose step
differentiates twice. Both libraries start from the same weights, the loss of
one batch is compared, and both are called in turn within one process, with all
cores. torch is measured with its fused Adam, and with the loop over parameters
that is its default on a CPU.

devices: what a device holds and what the devices exchange, by preset and
placement. Nothing is trained: the train step is compiled from shapes, for the
devices of this machine, and read.
"""

import collections
import itertools
import os
import re
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner, trained
from benchmarks.speed import timing
from jaxgen.losses import wasserstein
from jaxgen.training import sharding, state, step

SIZES = ((2, 256), (16, 256), (16, 1024), (128, 256))  # dimension, batch
TOLERANCE = 1e-4
STEPS = 20  # steps of a round
ADAMS = {"fused": True, "default": False}  # fused, for torch
PRESETS = ("smoke", "digits", "digits-dit")
KINDS = (
  "all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all"
  "|collective-permute|collective-broadcast"
)


def critic_data(dim: int, size: int):
  """Two batches [B, D] and mixes [B]."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, size, dim)).astype("float32")
  return x, y + 1, rng.uniform(size=size).astype("float32")


def ours(dim: int, size: int):
  """(one training step, the loss of the batch, parameters)."""
  recipe = trained.critics.RECIPES["gradient"]
  game = trained.critics.make("gradient", recipe, dim)
  x, y, mix = critic_data(dim, size)
  params = game.init(jax.random.key(0), x, y)
  start = state.init(jax.random.key(1), params, game.turns)
  batch = {"critic": jax.device_put((x, y))}
  run = timing.stepping(step.make_train_step(game.turns), start, batch)

  def one(x, y, mix):
    f = game.of(params)
    penalty = wasserstein.gradient_penalty(f, wasserstein.between(x, y, mix))
    return wasserstein.dual(f, x, y) + 10 * penalty

  loss = float(jnp.mean(jax.vmap(one)(x, y, mix)))
  return run, loss, params["critic"]["params"]


def theirs(dim: int, size: int, params, fused: bool):
  """(one training step, the loss of the batch), in torch."""
  import torch

  from benchmarks.peers import torch_networks

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  recipe = trained.critics.RECIPES["gradient"]
  net = torch.nn.Sequential()
  for name, layer in sorted(params.items()):  # hidden_0, hidden_1, out
    net.add_module(name, torch.nn.Linear(*layer["kernel"].shape))
    net.add_module(f"{name}_relu", torch.nn.ReLU())
  net = torch_networks.load(net[:-1], {"params": params})
  x, y, mix = map(torch.from_numpy, critic_data(dim, size))
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
  """A row for each of torch's optimizers; one row without torch."""
  run, loss, params = ours(dim, size)
  name = f"D {dim}, batch {size}"
  if not peer:
    return [timing.beside(name, run, None, rounds, STEPS)]
  rows = []
  for adam, fused in ADAMS.items():
    torch_run, torch_loss = theirs(dim, size, params, fused)
    if not abs(loss - torch_loss) < TOLERANCE * (1 + abs(loss)):
      raise ValueError(
        f"{name}: expected torch's loss {torch_loss}, got {loss}"
      )
    row = timing.beside(name, run, torch_run, rounds, STEPS)
    rows.append(row | dict(adam=adam))
  return rows


def critic_speed(args) -> dict:
  """Measures all sizes of critics."""
  torch = timing.version("torch")
  if torch is None:
    print("torch is not installed: left out", file=sys.stderr)
  found = [measure(*size, args.rounds, torch is not None) for size in SIZES]
  return dict(
    command="python -m benchmarks critic_speed",
    machine=runner.machine(),
    torch=torch or "not installed",
    rows=list(itertools.chain(*found)),
  )


def critic_tables(record: dict) -> dict:
  """The parts of the page."""
  lines = []
  for row in record["rows"]:
    cells = [row["name"], row.get("adam", ""), f"{1e3 / row['ours_ms']:.0f}"]
    if "ratio" in row:
      cells += [f"{1e3 / row['theirs_ms']:.0f}", f"{row['ratio']:.2f}"]
      cells.append(f"{row['low']:.2f} to {row['high']:.2f}")
    lines.append(cells + [""] * (6 - len(cells)))
  said = ["torch's default Adam loops over the parameters on a CPU."]
  if {row["adam"] for row in record["rows"] if "adam" in row} == {"default"}:
    said += ["Its fused Adam was not measured, so torch could be faster here."]
  made = f"`{record['command']}`, {record['machine']}; torch {record['torch']}."
  head = "critic | torch's Adam | jaxgen steps/s | torch steps/s | time ratio"
  rows = pages.table(f"{head} | quartiles", lines)
  return dict(made=made, adam=said, critics=rows)


def collectives(text: str) -> dict[str, int]:
  """{kind: number} of the exchanges in a compiled program's text."""
  called = re.findall(rf"= .*? ({KINDS})(?:-start)?\(", text)
  return dict(collections.Counter(called))


class Parts(NamedTuple):
  """What is known of a training before it begins."""

  turns: tuple[step.Turn, ...]
  shapes: state.State
  batch: Any  # its shapes


def parts(config) -> Parts:
  """The parts of a configuration of experiments.edm; computes nothing."""
  data = trained.datasets.load(config)
  config, method, turns = trained.prepare(config, data)

  def start(key):
    dummy = jnp.zeros(data.shape), jnp.zeros(())
    params = method.net.init(key, *dummy)
    return state.init(jax.random.key(0), {"model": params}, turns)

  batch_fn = data.batches(jax.random.key(0), config.batch_size)
  batch = jax.eval_shape(lambda: {"model": batch_fn(0)})
  return Parts(turns, jax.eval_shape(start, jax.random.key(0)), batch)


def lower(run: Parts, mesh, rule: sharding.Rule) -> tuple[state.State, Any]:
  """(where each leaf of the state lives, the train step, lowered)."""
  places = sharding.shardings(run.shapes, mesh, rule)
  at = lambda leaf, place: leaf.update(sharding=place)
  program = step.make_train_step(run.turns, places).lower(
    jax.tree.map(at, run.shapes, places),
    jax.tree.map(lambda leaf: at(leaf, sharding.split(mesh)), run.batch),
  )
  return places, program


def device_row(preset: str, mesh, shard: str) -> dict[str, Any]:
  """One line of the table."""
  run = parts(trained.edm.PRESETS[preset][1])
  places, program = lower(run, mesh, trained.choices.SHARDS[shard])
  params = jax.tree.leaves(run.shapes.players["model"].params)
  specs = [p.spec for p in jax.tree.leaves(places.players["model"].params)]
  compiled = program.compile()
  return dict(
    preset=preset,
    shard=shard,
    parameters=sum(leaf.size for leaf in params),
    leaves=len(params),
    split=sum(map(bool, specs)),
    state_bytes=sharding.bytes_per_device(run.shapes, places),
    temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
    collectives=collectives(compiled.as_text()),
  )


def devices(args) -> dict:
  """Compiles and reads."""
  mesh, shards = sharding.mesh(), trained.choices.SHARDS
  rows = [device_row(p, mesh, shard) for p in PRESETS for shard in shards]
  return dict(machine=runner.machine(), devices=mesh.size, rows=rows)


def device_tables(record: dict) -> dict:
  """The parts of the page."""
  rows, lines = record["rows"], []
  whole = {r["preset"]: r["state_bytes"] for r in rows[::2]}
  for r in rows:
    exchanged = ", ".join(f"{n} {kind}" for kind, n in r["collectives"].items())
    size = r["state_bytes"]
    row = r["preset"], r["shard"], f"{r['parameters']:,}"
    row += f"{r['leaves']}, {r['split']}", f"{size:,}"
    row += f"1 / {whole[r['preset']] / size:.2f}", f"{r['temporary_bytes']:,}"
    lines.append((*row, exchanged or "none"))
  head = "preset | shard | parameters | leaves, split | state | ratio"
  command = f"JAX_NUM_CPU_DEVICES={record['devices']} python -m benchmarks"
  return dict(
    made=f"`{command} devices` on {record['machine']}.",
    devices=pages.table(f"{head} | temporaries | collectives a step", lines),
  )


BENCHMARKS = {
  "critic_speed": runner.Benchmark(
    critic_speed, critic_tables, dict(rounds=21)
  ),
  "devices": runner.Benchmark(devices, device_tables),
}
