"""The results page of benchmarks.command_lines."""

import shlex

from benchmarks import command_draws


def shown(line: dict) -> str:
  """The line as it is typed."""
  return f"{line['script']} {shlex.join(line['words'])}"


def markdown(record: dict) -> str:
  """The results page."""
  cases = record["cases"]
  plain = [case for case in cases if "as_command" in case]
  alike = sum(case["as_command"] for case in plain)
  lines = [
    "# Random command lines",
    "",
    f"`python -m benchmarks.command_lines --seed {record['seed']} --number"
    f" {record['number']}` on {record['machine']}.",
    "",
    "A right line ends with code 0. A wrong line ends with code 2, writes"
    " nothing, and names in",
    "one line (or in tyro's box) a flag that was in it. Neither shows a"
    " traceback.",
    f"{alike} of {len(plain)} lines that were run again as commands ended"
    " alike.",
    "",
    "| script | flags | lines with the rarest | right | as they should |"
    " wrong | as they should |",
    "|---|---|---|---|---|---|---|",
  ]
  for script in command_draws.SHARES:
    own = [case for case in cases if case["script"] == script]
    kinds = command_draws.types(script)
    least = min(sum(name in c["flags"] for c in own) for name in kinds)
    row = [script, len(kinds), least]
    for right in (True, False):
      of_kind = [case for case in own if case["right"] == right]
      row += [len(of_kind), sum(not case["faults"] for case in of_kind)]
    lines.append(f"| {' | '.join(map(str, row))} |")
  failed = [case for case in cases if case["faults"]]
  lines += ["", f"{len(failed)} of {len(cases)} lines failed.", ""]
  for case in failed:
    said = case["said"].strip().splitlines()[-1:] or [""]
    lines += [
      f"- `{shown(case)}`: {'; '.join(case['faults'])} (`{said[0][:200]}`)"
    ]
  return "\n".join(lines).rstrip() + "\n"
