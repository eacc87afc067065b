"""What a device holds and what the devices exchange, by preset and placement.

  JAX_NUM_CPU_DEVICES=8 python -m benchmarks.devices     about a minute

Nothing is trained: the train step is compiled for the devices that are there,
from shapes, and read. Writes docs/results/devices.md and devices.json.
"""

import argparse
import collections
import functools
import json
import pathlib
import platform
import re
from typing import Any

import jax
import jax.numpy as jnp

from experiments import edm
from experiments.lib import averages, build, tables
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


def placed(shapes: Any, places: Any) -> Any:
  """Shapes that say where they live, for jit's lower."""
  return jax.tree.map(
    lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place
    ),
    shapes,
    places,
  )


def train_step(config: edm.Config, mesh, rule) -> tuple[Any, Any, Any]:
  """(shapes of the state, where they live, the lowered step) of a run."""
  data = build.load_data(config)
  config = build.resolve(config, data)
  method = build.method(config, data)
  turns = step.single(
    edm.make_loss(config, method, data.num_classes),
    edm.make_optimizer(config),
    averages.rules(config),
  )

  def start(key):
    dummy = jnp.zeros(data.shape), jnp.zeros(())
    params = method.model.init(key, *dummy)
    return state.init(jax.random.key(0), {"model": params}, turns)

  shapes = jax.eval_shape(start, jax.random.key(0))
  places = sharding.shardings(shapes, mesh, rule)
  batch_fn = data.batches(jax.random.key(0), config.batch_size)
  batch = jax.eval_shape(lambda: batch_fn(0))
  split = functools.partial(jax.tree.map, lambda leaf: sharding.split(mesh))
  program = step.make_train_step(turns, places).lower(
    placed(shapes, places), {"model": placed(batch, split(batch))}
  )
  return shapes, places, program


def row(preset: str, mesh, shard: str) -> dict[str, Any]:
  """One line of the table."""
  config = edm.PRESETS[preset][1]
  shapes, places, program = train_step(config, mesh, tables.SHARDS[shard])
  params = shapes.players["model"].params
  compiled = program.compile()
  return dict(
    preset=preset,
    shard=shard,
    parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
    leaves=len(jax.tree.leaves(params)),
    split=sum(
      bool(place.spec)
      for place in jax.tree.leaves(places.players["model"].params)
    ),
    state_bytes=sharding.bytes_per_device(shapes, places),
    temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
    collectives=collectives(compiled.as_text()),
  )


def markdown(rows: list[dict[str, Any]], num: int, machine: str) -> str:
  """The results page."""
  lines = [
    "# Devices",
    "",
    f"`JAX_NUM_CPU_DEVICES={num} python -m benchmarks.devices` on {machine}.",
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
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", default="docs/results")
  args = parser.parse_args()
  mesh = sharding.mesh()
  rows = [row(p, mesh, shard) for p in PRESETS for shard in tables.SHARDS]
  machine = (
    f"{jax.devices()[0].device_kind}, jax {jax.__version__},"
    f" Python {platform.python_version()}"
  )
  page = markdown(rows, mesh.size, machine)
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  (out / "devices.md").write_text(page)
  record = dict(machine=machine, devices=mesh.size, rows=rows)
  (out / "devices.json").write_text(json.dumps(record, indent=2) + "\n")
  print(page)


if __name__ == "__main__":
  main()
