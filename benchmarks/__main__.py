"""The one command: python -m benchmarks NAME [flags].

python -m benchmarks             lists the benchmarks and their pages
python -m benchmarks NAME -h     what one measures, how long, its flags
python -m benchmarks pages       writes every page again from its record
"""

import argparse
import importlib
import pathlib
import sys

# {name: (module, what it measures)}; those with a page write it.
BENCHMARKS = {
  "c2ot": ("published.c2ot", "Reproduces figure 1 of Cheng and Schwing 2025."),
  "tong": ("published.tong", "Reproduces table 2 of Tong et al. 2023."),
  "sf2m": ("published.sf2m", "Compares bridges on Tong et al.'s pairs."),
  "w1": ("published.w1", "Scores W1 critics where the potential is known."),
  "w2": ("published.maps", "Scores W2 maps where the optimal map is known."),
  "ring": ("published.maps", "Counts the modes that GANs find on a ring."),
  "peers": ("peers.peers", "Compares our solvers with four libraries."),
  "critic_speed": ("speed.steps", "Times critic steps beside torch eager."),
  "devices": ("speed.steps", "Reads what each device holds and exchanges."),
  "loading": ("speed.overhead", "Times the loader beside the train step."),
  "nearest": ("speed.nearest", "Times nearest neighbours beside faiss."),
  "metrics": ("speed.metrics", "Times metrics of 50,000 x 2048 features."),
  "overhead": ("speed.overhead", "Times what the sampler and the step add."),
  "pairing": ("speed.pairing", "Times optimal pairing and score losses."),
  "flow_speed": ("speed.flows", "Times normalizing flows beside peers."),
  "text_speed": ("speed.decoding", "Times sampling of text with a cache."),
  "first_step": ("speed.first_step", "Times the first step and imports."),
  "throughput": ("speed.throughput", "Times train steps beside torch eager."),
  "time_to_loss": ("speed.time_to_loss", "Times trainings beside torch."),
  "few_steps": ("few_steps", "Measures solvers with few steps on four grids."),
  "few_calls": ("few_calls", "Scores flow maps with few network calls."),
  "map_speed": ("speed.flow_maps", "Times the steps of flow maps."),
  "baselines": ("baselines", "Fits classical densities to the digits."),
  "densities": ("densities", "Compares log-likelihoods on the digits."),
  "text": ("text", "Compares log-likelihoods of text, in bits per byte."),
  "folds": ("folds", "Compares log-likelihoods on ten folds."),
  "likelihood": ("likelihood", "Measures errors of log-likelihoods."),
  "likelihood_cost": ("likelihood_cost", "Times log-likelihoods beside peers."),
  "quality": ("quality", "Scores samples of every script beside the floor."),
  "particles": ("particles", "Measures flows of particles to a mixture."),
  "entropic_plans": ("entropic_plans", "Compares plans with exact ones."),
  "sphere": ("sphere", "Measures log-densities on the sphere."),
  "guidance": ("guidance", "Measures accuracy and distance by guidance."),
  "bridges": ("bridges", "Measures DSBM where the bridge is known."),
  "quantizers": ("quantizers", "Compares codebooks with k-means on digits."),
  "encoders": ("encoders", "Measures the encoders of O-GANs."),
  "codecs": ("codecs", "Measures what autoencoders lose of images."),
  "two_stages": ("two_stages", "Scores samples of latents beside pixels."),
  "unified": ("solvers", "Scores every path, prediction and solver."),
  "orders": ("solvers", "Fits the order of every solver."),
  "duality": ("exact", "Solves optimal transport and its dual."),
  "one_layer": ("exact", "Runs one sampler on five kinds of field."),
  "command_lines": ("checks.command_lines", "Judges random command lines."),
  "crashes": ("checks.crashes", "Kills runs, resumes and compares them."),
  "mutants": ("checks.mutants", "Counts one-token changes that tests notice."),
  "suite": ("checks.suite", "Times the test suite, and counts its programs."),
  "bits": ("checks.bits", "Checks that a code change leaves runs bit-equal."),
}
NO_PAGE = ("bits",)


def load(name: str):
  """(module, its benchmark of this name)."""
  module = importlib.import_module(f"benchmarks.{BENCHMARKS[name][0]}")
  return module, module.BENCHMARKS[name]


def list_all() -> None:
  """Prints a line for each benchmark."""
  print(__doc__)
  for name, (_, sentence) in BENCHMARKS.items():
    page = "" if name in NO_PAGE else f"  docs/results/{name}.md"
    print(f"{name:14} {sentence:49}{page}")


def write_pages(words: list[str]) -> None:
  """Writes every page from its record; measures nothing."""
  from benchmarks import pages

  parser = argparse.ArgumentParser(prog="python -m benchmarks pages")
  parser.add_argument("--out", type=pathlib.Path, default="docs/results")
  out = parser.parse_args(words).out
  for name in BENCHMARKS:
    if name not in NO_PAGE and (record := pages.stored(out, name)):
      parts = load(name)[1].tables(record)
      (out / f"{name}.md").write_text(pages.page(name, parts))


def main(words: list[str]) -> None:
  """Lists, writes all pages, or runs a benchmark and writes its page."""
  if not words or words[0] in ("-h", "--help"):
    list_all()
  elif words[0] == "pages":
    write_pages(words[1:])
  elif words[0] not in BENCHMARKS:
    known = ", ".join((*BENCHMARKS, "pages"))
    raise SystemExit(f"NAME: expected one of {known}, got {words[0]}")
  else:
    module, benchmark = load(words[0])
    args = benchmark.parse(words[0], module.__doc__, words[1:])
    record = benchmark.run(args)
    if record is not None and benchmark.tables is not None:
      from benchmarks import pages

      pages.write(args.out, words[0], benchmark.tables(record), record)
    sys.exit(record is not None and benchmark.fails(record))


if __name__ == "__main__":
  main(sys.argv[1:])
