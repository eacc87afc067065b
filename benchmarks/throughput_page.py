"""docs/results/throughput.md from what benchmarks.throughput measured."""


def side_by_side_page(found):
  """The CPU's part: {the environment's variables: rows} as lines."""
  lines = []
  for variables, rows in found.items():
    lines += ["", f"Variables of the environment: `{variables}`", ""]
    if "ratio" not in rows[0]:
      lines += ["| network | ms |", "|---|---|"]
      lines += [f"| {r['name']} | {r['ours_ms']:.2f} |" for r in rows]
      lines += ["", "torch is not installed: its columns are left out."]
      continue
    lines += ["| ours / torch | ratio | goal | ours, ms | torch, ms |"]
    lines += ["|---|---|---|---|---|"]
    lines += [
      f"| {r['name']} | {r['ratio']:.3f} ({r['low']:.3f}-{r['high']:.3f}) |"
      f" {r['limit']:.2f} | {r['ours_ms']:.2f} | {r['theirs_ms']:.2f} |"
      for r in rows
    ]
    slower = [r["name"] for r in rows if r["ratio"] > r["limit"]]
    if slower:
      lines += ["", f"Slower than torch: {'; '.join(slower)}."]
  return lines


def accelerated_page(found):
  """The accelerator's part as lines; None where there is none."""
  if found is None:
    return ["Not measured: no accelerator."]
  lines = ["| network | images/s | share of peak | GiB |", "|---|---|---|---|"]
  lines += [
    f"| {r['name']} | {r['images']:,.0f} | {r['share']:.2f} |"
    f" {r['bytes'] / 2**30:.1f} |"
    for r in found["rows"]
  ]
  peaks = ", ".join(f"{k} {v / 1e12:.1f}" for k, v in found["peaks"].items())
  return [
    *lines,
    "",
    f"Peak of a matrix product, TFLOP/s: {peaks}. Share: XLA's count of the",
    "program's operations before optimisation, over time, over that peak. GiB:",
    "arguments and temporaries of the program.",
  ]


def page(record):
  """The results page, from what throughput.json holds."""
  return "\n".join(
    [
      "# Throughput",
      "",
      f"`python -m benchmarks.throughput` on {record['machine']}.",
      "",
      "## CPU, beside torch eager",
      "",
      "The networks of the presets digits and digits-dit. Step: forward,",
      "backward, clipping, Adam and the average, of images on the device.",
      "torch has the same weights (outputs agree to 1e-4), fused Adam, and",
      "channels last where that is faster. Called in turn in one process on",
      "the same cores; median (quartiles) of the ratios.",
      *side_by_side_page(record["side_by_side"]),
      "",
      "The allocator's variables must be set before Python starts; they keep",
      "large blocks. With a device a core the same scripts split each batch",
      "over the cores: XLA's own threads divide single operations only.",
      "",
      "## Accelerator",
      "",
      *accelerated_page(record["accelerated"]),
      "",
    ]
  )
