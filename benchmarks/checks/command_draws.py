"""Samples random command lines, right and wrong, that use every flag.

The values of each flag are in command_flags.toml, and so are the presets and
the runs that lines start with.
"""

import collections
import dataclasses
import importlib
import pathlib
import random
import shlex
import tomllib
import typing
from typing import Any, Literal

from benchmarks import trained

TABLES = tomllib.loads(
  pathlib.Path(__file__).with_name("command_flags.toml").read_text()
)
SOLVERS = trained.choices.FLOW_SOLVERS
SHARES = TABLES["shares"]
NUMBER = sum(SHARES.values())  # of lines, from which every flag is in three
# The sets of values that the flags have in common.
PARTS = TABLES["names"]
NAMES = {k: text.format(**PARTS) for k, text in PARTS.items()} | dict(
  FLOW="|".join(SOLVERS),
  SOLVERS="|".join(trained.choices.SOLVERS),
  VELOCITY="|".join(n for n, make in SOLVERS.items() if len(make().needs) == 1),
)
TRAINED = {k: text.format(**NAMES) for k, text in TABLES["trained"].items()}
SETS = TABLES["sets"] | dict(ONE_CALL=dict.fromkeys(trained.SAMPLING, "-"))


def draw_lines(seed: int, number: int, scripts=tuple(SHARES)) -> list[dict]:
  """The lines of some scripts, whatever the other scripts are.

  Each is a dict of its name, its script, its words, whether it is right, the
  names of which an error must contain one, and its flags.

  Args:
    seed: of the lines.
    number: of the lines of all scripts together.
    scripts: names of the scripts.

  Raises:
    ValueError: at least NUMBER lines, of which fewer than 3 use some flag.
  """
  lines = []
  for script in scripts:
    rng, kinds = random.Random(f"{seed} {script}"), types(script)
    num = max(2, round(SHARES[script] * number / NUMBER))
    found = _lines(script, kinds, rng, num)
    seen = collections.Counter(flag for line in found for flag in line["flags"])
    rare = [name for name in kinds if seen[name] < 3]
    if rare and number >= NUMBER:
      raise ValueError(f"{script}: fewer than 3 lines with {', '.join(rare)}")
    for i, line in enumerate(found):
      lines.append(dict(name=f"{script}-{i}", script=script, **line))
  return lines


def types(script: str) -> dict[str, Any]:
  """{flag: type} of a script's settings.

  Raises:
    ValueError: command_flags.toml has no values for a flag.
  """
  kind = importlib.import_module(f"experiments.{script}").Config
  found = {field.name: field.type for field in dataclasses.fields(kind)}
  if missing := found.keys() - TABLES["flags"].keys():
    raise ValueError(f"{script}: no values for {', '.join(sorted(missing))}")
  return found


def _lines(script, kinds, rng, number):
  """Every other line is right; the others are wrong in one of three ways."""
  seen: dict = collections.Counter()
  broken: dict = collections.Counter()
  bases = [
    (base, _values(base, "right", kinds), _values(base, "wrong", kinds))
    for base in TABLES["bases"][script]
  ]
  joint, lines = list(TABLES["together"][script]), []
  rng.shuffle(joint)
  for i in range(number):
    base, right, wrong = bases[i // 2 % len(bases)]
    if i % 2 == 0:
      line = _right(rng, base, right, seen, 18)
    elif i % 6 == 5 and joint:
      line = _joint(kinds, joint.pop())
    elif i % 16 == 3:
      line = _typo(rng, base, right, kinds, seen)
    else:
      line = _wrong(rng, base, right, wrong, seen, broken)
    seen.update(list(line["flags"]))
    lines.append(line)
  return lines


def _values(base, side, kinds):
  """{flag: its values}, side "right" or "wrong", without flags of none."""
  given, own, found = dict(base.get(side, {})), {}, {}
  for name in given.pop("sets", ()):
    own |= SETS[name]
  own |= given
  for flag, kind in kinds.items():
    text = own.get(flag, TABLES["flags"][flag][side == "wrong"])
    if text == "" and side == "right":
      found[flag] = _literals(kind)
    elif text not in ("", "-"):
      found[flag] = text.format(**NAMES).split("|")
  return {flag: values for flag, values in found.items() if values}


def _literals(kind):
  """The names that a Literal, or a union with one, allows."""
  parts = (kind, *typing.get_args(kind))
  literals = [p for p in parts if typing.get_origin(p) is Literal]
  return [name for part in literals for name in typing.get_args(part)]


def _right(rng, base, right, seen, most):
  """All flags of base["always"], and those of the others that are rarest."""
  always, usable = base["always"].split(), list(right)
  rng.shuffle(usable)
  usable.sort(key=lambda name: (name not in always, seen[name]))
  chosen = usable[: len(always) + rng.randint(most // 2, most)]
  flags = {name: rng.choice(right[name]) for name in chosen}
  return _line(base["words"], flags, True, [])


def _wrong(rng, base, right, wrong, seen, broken):
  """A right line in which the value of one flag is changed to a wrong one."""
  breakable = list(wrong)
  rng.shuffle(breakable)
  name = min(breakable, key=lambda name: broken[name])
  broken[name] += 1
  line = _right(rng, base, right, seen, 3)
  flags = line["flags"] | {name: rng.choice(wrong[name])}
  return _line(base["words"], flags, False, [_flag(name)])


def _typo(rng, base, right, kinds, seen):
  """A right line with a flag, a preset or a run that does not exist."""
  flags = _right(rng, base, right, seen, 2)["flags"]
  if rng.random() < 0.3:
    words = f"{base['words']}x"
    return _line(words, flags, False, [words])
  name = rng.choice([name for name in kinds if len(name) > 4])
  odd = _flag(name[:-3] + name[-2:])
  line = _line(base["words"], flags, False, [odd])
  return line | {"words": [*line["words"], odd, "1"]}


def _joint(kinds, text):
  """A line of settings of which each is right, but not beside the others."""
  words = shlex.split(text)
  named = [word for word in words if word.startswith("--")]
  flags = [word[2:].replace("-", "_") for word in named]
  if "run_dir" in kinds:
    words += ["--run-dir", "run"]
    flags.append("run_dir")
  flags = dict.fromkeys(flags)
  return dict(words=words, right=False, names=named or words, flags=flags)


def _line(start, flags, right, names):
  """The line of these flags; a Boolean one is written --flag or --no-flag."""
  words = [start]
  for name, value in flags.items():
    if value in ("True", "False"):
      words.append(_flag(name if value == "True" else f"no_{name}"))
    else:
      words += [_flag(name), *shlex.split(value)]
  return dict(words=words, right=right, names=names, flags=flags)


def _flag(name):
  return f"--{name.replace('_', '-')}"


def shown(line: dict) -> str:
  """The line as a user types it."""
  return f"{line['script']} {shlex.join(line['words'])}"
