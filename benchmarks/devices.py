"""What a device holds and what the devices exchange, by preset and placement.

  JAX_NUM_CPU_DEVICES=8 python -m benchmarks.devices     about a minute

Nothing is trained: the train step is compiled for the devices that are there,
from shapes, and read. Writes docs/results/devices.md and devices.json.
"""

import collections
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import results
from experiments import edm
from experiments.lib import build, tables, training
from jaxgen.training import sharding, state, step

PRESETS = ("smoke", "digits", "digits-dit")
KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)


def collectives(text: str) -> dict[str, int]:
  """{kind: number} of what devices exchange in a compiled program's text."""
  called = re.findall(rf"= .*? ({'|'.join(KINDS)})(?:-start)?\(", text)
  return dict(collections.Counter(called))


class Parts(NamedTuple):
  """A run before it begins: its game, and the shapes of state and batch."""

  turns: tuple[step.Turn, ...]
  shapes: state.State
  batch: Any


def parts(config: edm.Config) -> Parts:
  """Of a configuration, without computing anything."""
  data = build.load_data(config)
  config = build.resolve(config, data)
  method = build.method(config, data)
  turns = training.make_turns(config, edm.make_loss(config, method, data))

  def start(key):
    dummy = jnp.zeros(data.shape), jnp.zeros(())
    params = method.model.init(key, *dummy)
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


def row(preset: str, mesh, shard: str) -> dict[str, Any]:
  """One line of the table."""
  run = parts(edm.PRESETS[preset][1])
  places, program = lower(run, mesh, tables.SHARDS[shard])
  params = jax.tree.leaves(run.shapes.players["model"].params)
  compiled = program.compile()
  return dict(
    preset=preset,
    shard=shard,
    parameters=sum(leaf.size for leaf in params),
    leaves=len(params),
    split=sum(
      bool(place.spec)
      for place in jax.tree.leaves(places.players["model"].params)
    ),
    state_bytes=sharding.bytes_per_device(run.shapes, places),
    temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
    collectives=collectives(compiled.as_text()),
  )


def page(record: dict[str, Any]) -> str:
  """The results page."""
  rows = record["rows"]
  lines = [
    "# Devices",
    "",
    f"`JAX_NUM_CPU_DEVICES={record['devices']} python -m benchmarks.devices` on"
    f" {record['machine']}.",
    "State: parameters, optimizer and average. Temporaries: what the step",
    "holds besides. Both in bytes, of one device.",
    "",
    "| preset | shard | parameters | leaves, split | state | ratio |"
    " temporaries | collectives a step |",
    "|---|---|---|---|---|---|---|---|",
  ]
  whole = {r["preset"]: r["state_bytes"] for r in rows[::2]}
  for r in rows:
    exchanged = ", ".join(f"{n} {kind}" for kind, n in r["collectives"].items())
    lines.append(
      f"| {r['preset']} | {r['shard']} | {r['parameters']:,} |"
      f" {r['leaves']}, {r['split']} | {r['state_bytes']:,} |"
      f" 1 / {whole[r['preset']] / r['state_bytes']:.2f} |"
      f" {r['temporary_bytes']:,} | {exchanged or 'none'} |"
    )
  return "\n".join(lines) + "\n"


def main() -> None:
  """Compiles, prints and writes."""
  args = results.parser(__doc__).parse_args()
  mesh = sharding.mesh()
  rows = [row(p, mesh, shard) for p in PRESETS for shard in tables.SHARDS]
  record = dict(machine=results.machine(), devices=mesh.size, rows=rows)
  results.write(args.out, "devices", page(record), record)


if __name__ == "__main__":
  main()
