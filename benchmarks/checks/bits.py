"""Whether a change of the code leaves every run as it was, bit for bit.

  python -m benchmarks bits --out before.json        before the change
  python -m benchmarks bits --against before.json    after it, same machine

Presets whose data are shipped or synthetic, and which need no other run, are
trained for a few steps from the command line and sampled. Compared are what a
resumed run must share with an unbroken one (crashes.contents) and the samples.
Floating-point sums differ between machines and versions of jax, so a record is
worth nothing elsewhere and none is kept here.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks import runner
from benchmarks.checks import crashes

EVERY = ("--log-every", "20", "--save-every", "200", "--keep", "1")
PRESETS = {
  "edm": "digits digits-dit toy photos",
  "flow_matching": "digits zero-to-eight pair interpolant photos",
  "score_matching": "digits digits-pc toy energy photos",
  "gan": "r3gan ring wgan-gp wgan gan",
  "transport_map": "pair neural-ot makkuva w2gn entropic zero-to-eight",
  "wasserstein": "points digits",
  "autoregressive": "binary-digits toy",
  "normalizing_flow": "digits toy",
  "vae": "binary-digits toy",
  "vqvae": "digits digits-kl",
  "vqgan": "",
  "masked": "binary-digits toy",
  "text": "docs",
  "glann": "imle",
  "information_bottleneck": "digits",
  "flow_map": "digits toy",
  "bridge": "gaussian-bridge digits",
}
NO_SAMPLES = "wasserstein", "vqvae", "vqgan", "information_bottleneck"


def cases():
  """(script, preset, flags) of every run."""
  for script, presets in PRESETS.items():
    yield script, "smoke", ()
    for preset in presets.split():
      few = "20" if preset == "photos" else "200"
      short = preset in ("photos", "digits-dit")
      warmup = ("--warmup-steps", "5") if short else ()
      yield script, preset, ("--num-steps", few, *warmup, *EVERY)


def run(script: str, preset: str, flags: tuple[str, ...]) -> dict[str, str]:
  """Trains and samples in a temporary folder: {what: hash}."""
  with tempfile.TemporaryDirectory() as folder:
    run_dir = pathlib.Path(folder, "run")
    train = [f"experiments.{script}", preset, "--run-dir", str(run_dir), *flags]
    commands = [train, ["experiments.sample", str(run_dir), "--number", "20"]]
    for command in commands[: 1 + (script not in NO_SAMPLES)]:
      done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True
      )
      if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found = crashes.contents(run_dir)
    for path in run_dir.glob("*.npz"):
      with np.load(path) as arrays:
        found |= {f"{path.name}/{k}": v.tobytes() for k, v in arrays.items()}
    digest = lambda content: hashlib.sha256(content).hexdigest()[:16]
    return {name: digest(content) for name, content in found.items()}


def compare(args) -> None:
  """Runs all cases; exits with 1 if one differs from the record before."""
  before = json.loads(args.against.read_text()) if args.against else {}
  found, different = {}, False
  for script, preset, flags in cases():
    name = f"{script} {preset}"
    if name.startswith(args.only):
      found[name] = run(script, preset, flags)
      changed = crashes.differing(before.get(name, found[name]), found[name])
      different |= bool(changed)
      said = f"DIFFERENT: {', '.join(changed)}" if changed else "same"
      print(name, said if name in before else "recorded", flush=True)
      if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")
  sys.exit(different)


def flags(parser) -> None:
  """Adds --against and --only; --out is a file here."""
  parser.set_defaults(out=None)
  parser.add_argument("--against", type=pathlib.Path, help="an earlier --out")
  parser.add_argument("--only", default="", help="the start of a run's name")


BENCHMARKS = {"bits": runner.Benchmark(compare, flags=flags)}
