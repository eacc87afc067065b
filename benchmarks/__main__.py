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
  "c2ot": ("published.c2ot", "Cheng and Schwing 2025, figure 1, reproduced."),
  "tong": ("published.tong", "Tong et al. 2023, table 2, beside torchcfm."),
  "w1": ("published.w1", "W1 critics where the potential is known."),
  "w2": ("published.maps", "W2 maps where the optimal map is known."),
  "ring": ("published.maps", "GAN objectives on eight narrow Gaussians."),
  "peers": ("peers.peers", "Solvers beside four other libraries' solvers."),
  "critic_speed": ("speed.steps", "WGAN-GP critic steps beside torch eager."),
  "devices": ("speed.steps", "Memory and collectives of a device."),
  "loading": ("speed.overhead", "The loader's batches beside the train step."),
  "overhead": ("speed.overhead", "What the sampler and the train step add."),
  "pairing": ("speed.pairing", "Cost of optimal pairing and of score losses."),
  "throughput": ("speed.throughput", "Train steps beside torch eager."),
  "few_steps": ("few_steps", "Solvers with few steps, on four grids."),
  "likelihood": ("likelihood", "Errors, intervals, cost of log-likelihoods."),
  "quality": ("quality", "Sample quality of every script, beside its floor."),
  "unified": ("solvers", "Path x prediction x solver on the digits."),
  "orders": ("solvers", "Fitted orders of all solvers."),
  "duality": ("exact", "A transport plan and the prices that prove it."),
  "one_layer": ("exact", "One sampler for five kinds of field."),
  "command_lines": ("checks.command_lines", "Random command lines, judged."),
  "crashes": ("checks.crashes", "Runs killed, resumed and compared."),
  "mutants": ("checks.mutants", "One-token changes that the tests notice."),
  "bits": ("checks.bits", "Whether a code change leaves runs bit-equal."),
}
NO_PAGE = ("bits",)


def load(name: str):
  """(module, its benchmark of this name)."""
  module = importlib.import_module(f"benchmarks.{BENCHMARKS[name][0]}")
  return module, module.BENCHMARKS[name]


def list_all() -> None:
  """A line for each benchmark."""
  print(__doc__)
  for name, (_, sentence) in BENCHMARKS.items():
    page = "" if name in NO_PAGE else f"  docs/results/{name}.md"
    print(f"{name:14} {sentence:52}{page}")


def write_pages(words: list[str]) -> None:
  """Every page from its record; nothing is measured."""
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
