"""Whether a change of the code leaves every run as it was, bit for bit.

  python -m benchmarks bits --out before.json        before the change
  python -m benchmarks bits --against before.json    after it, same machine

Each preset whose data is shipped or synthetic is trained for a few steps from
the command line and sampled. Compared are the records of metrics.jsonl
(without their seconds), the checksums of every leaf of the last checkpoint,
and the samples. Floating-point sums differ between machines and versions of
jax, so that a record is worth nothing elsewhere: none is kept here.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks import runner

NUM_STEPS = 200
EVERY = ("--log-every", "20", "--save-every", "200", "--keep", "1")
PRESETS = {
  "edm": "digits digits-dit toy photos",
  "flow_matching": "digits zero-to-eight pair interpolant photos",
  "score_matching": "digits digits-pc toy energy photos",
  "gan": "r3gan ring wgan-gp wgan gan",
  "transport_map": "pair neural-ot makkuva w2gn entropic zero-to-eight",
  "wasserstein": "points digits",
}


def cases():
  """(script, preset, flags) of every run."""
  for script, presets in PRESETS.items():
    yield script, "smoke", ()
    for preset in presets.split():
      few = "20" if preset == "photos" else str(NUM_STEPS)
      short = preset in ("photos", "digits-dit")
      warmup = ("--warmup-steps", "5") if short else ()
      yield script, preset, ("--num-steps", few, *warmup, *EVERY)


def digest(run_dir: pathlib.Path) -> dict[str, str]:
  """What a run has found, {what: hash or checksum}."""
  lines = (run_dir / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  values = [[v for v in r.items() if v[0] != "seconds"] for r in records]
  found = {"metrics": _hash(json.dumps(values).encode())}
  for path in sorted(run_dir.glob("*.npz")):
    with np.load(path) as arrays:
      for name in arrays.files:
        found[f"{path.name}:{name}"] = _hash(arrays[name].tobytes())
  from orbax.checkpoint import v1 as ocp

  folder = (run_dir / "checkpoints").absolute()
  with ocp.training.Checkpointer(folder) as checkpointer:
    stored = checkpointer.checkpointables_metadata(None).custom_metadata
  return found | {"checkpoint": _hash(json.dumps(stored["crc32"]).encode())}


def _hash(content):
  return hashlib.sha256(content).hexdigest()[:16]


def run(script: str, preset: str, flags: tuple[str, ...]) -> dict[str, str]:
  """Trains and samples in a temporary folder."""
  with tempfile.TemporaryDirectory() as folder:
    run_dir = pathlib.Path(folder, "run")
    train = [f"experiments.{script}", preset, "--run-dir", str(run_dir), *flags]
    commands = [train, ["experiments.sample", str(run_dir), "--number", "20"]]
    for command in commands[: 1 + (script != "wasserstein")]:
      done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True
      )
      if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return digest(run_dir)


def compare(args) -> None:
  """Runs all cases; exits with 1 where one differs from the record before."""
  before = json.loads(args.against.read_text()) if args.against else {}
  found, differing = {}, 0
  for script, preset, flags in cases():
    name = f"{script} {preset}"
    if not name.startswith(args.only):
      continue
    found[name] = run(script, preset, flags)
    was = before.get(name)
    same = "" if was is None else "same" if was == found[name] else "DIFFERENT"
    differing += same == "DIFFERENT"
    detail = found[name] if same != "same" else ""
    print(f"{name}: {same} {detail}", flush=True)
    if args.out:
      args.out.write_text(json.dumps(found, indent=1) + "\n")
  sys.exit(bool(differing))


def flags(parser) -> None:
  """--against and --only; --out is a file here."""
  parser.set_defaults(out=None)
  parser.add_argument("--against", type=pathlib.Path)
  parser.add_argument("--only", default="", help="start of a run's name")


BENCHMARKS = {"bits": runner.Benchmark(compare, flags=flags)}
