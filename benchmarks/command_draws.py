"""Draws random command lines, right and wrong, that carry every flag."""

import collections
import dataclasses
import importlib
import random
import shlex
import typing
from typing import Any, Literal

from benchmarks import command_flags

# Lines of each script, of 200.
SHARES = dict(
  edm=32,
  flow_matching=42,
  score_matching=30,
  gan=26,
  wasserstein=18,
  transport_map=20,
  sample=12,
  evaluate=10,
  encode=10,
)


def draw_lines(seed: int, number: int) -> list[dict]:
  """The lines: script, words, whether right, and what a message may name."""
  lines = []
  for script, share in SHARES.items():
    of_script = max(2, round(share * number / sum(SHARES.values())))
    kinds = types(script)
    seen, broken = collections.Counter(), collections.Counter()
    draw = random.Random(f"{seed} {script}")
    joint = [words for name, words in command_flags.TOGETHER if name == script]
    draw.shuffle(joint)
    for i in range(of_script):
      base = command_flags.BASES[script][
        i // 2 % len(command_flags.BASES[script])
      ]
      if i % 2 == 0:
        line = _right(draw, script, base, kinds, seen, 12)
      elif i % 6 == 5 and joint:
        line = _joint(script, joint.pop())
      elif i % 16 == 3:
        line = _typo(draw, script, base, kinds, seen)
      else:
        line = _wrong(draw, script, base, kinds, seen, broken)
      seen.update(list(line["flags"]))
      lines.append(line)
    rare = [name for name in kinds if seen[name] < 3]
    if rare and number >= 200:
      raise ValueError(f"{script}: fewer than 3 lines with {', '.join(rare)}")
  return lines


def _values(script, base, flag, kinds, wrong=False):
  return values(script, base, flag, kinds[flag], wrong)


def _right(draw, script, base, kinds, seen, most):
  """Every flag of base.always, and those of others that were used least."""
  usable = [name for name in kinds if _values(script, base, name, kinds)]
  draw.shuffle(usable)
  usable.sort(key=lambda name: (name not in base.always.split(), seen[name]))
  always = len(base.always.split())
  chosen = usable[: always + draw.randint(most // 2, most)]
  flags = {}
  for name in chosen:
    flags[name] = draw.choice(_values(script, base, name, kinds))
  return _line(script, base.words, flags, True, [])


def _wrong(draw, script, base, kinds, seen, broken):
  """A right line with the value of one flag changed to a wrong one."""
  breakable = [n for n in kinds if _values(script, base, n, kinds, True)]
  draw.shuffle(breakable)
  name = min(breakable, key=lambda name: broken[name])
  broken[name] += 1
  line = _right(draw, script, base, kinds, seen, 3)
  value = draw.choice(_values(script, base, name, kinds, True))
  flags = line["flags"] | {name: value}
  return _line(script, base.words, flags, False, [_flag(name)])


def _typo(draw, script, base, kinds, seen):
  """A right line with a flag, a preset or a run that there is not."""
  line = _right(draw, script, base, kinds, seen, 2)
  if draw.random() < 0.3:
    words = f"{base.words}x"
    return _line(script, words, line["flags"], False, [words])
  name = draw.choice([name for name in kinds if len(name) > 4])
  odd = _flag(name[:-3] + name[-2:])
  line = _line(script, base.words, line["flags"], False, [odd])
  return line | {"words": [*line["words"], odd, "1"]}


def _joint(script, text):
  """A line of command_flags.TOGETHER."""
  words = shlex.split(text)
  names = [w for w in words if w.startswith("--")] or words
  flags = [w[2:].replace("-", "_") for w in words if w.startswith("--")]
  if script not in ("sample", "evaluate", "encode"):
    words += ["--run-dir", "run"]
    flags.append("run_dir")
  return dict(
    script=script,
    words=words,
    right=False,
    names=names,
    flags=dict.fromkeys(flags),
  )


def _line(script, words, flags, right, names):
  words = [words]
  for name, value in flags.items():
    if value in ("True", "False"):
      words.append(_flag(name if value == "True" else f"no_{name}"))
    else:
      words += [_flag(name), *shlex.split(value)]
  return dict(script=script, words=words, right=right, names=names, flags=flags)


def _flag(name):
  return f"--{name.replace('_', '-')}"


def types(script: str) -> dict[str, Any]:
  """{flag: type} of a script's settings.

  Raises:
    ValueError: a flag that has no values here.
  """
  kind = importlib.import_module(f"experiments.{script}").Config
  found = {field.name: field.type for field in dataclasses.fields(kind)}
  if missing := found.keys() - command_flags.FLAGS.keys():
    raise ValueError(f"{script}: no values for {', '.join(sorted(missing))}")
  return found


def values(
  script: str, base: command_flags.Base, flag: str, kind: Any, wrong: bool
) -> list:
  """The values of a flag on this base, [] for none."""
  own = base.wrong if wrong else base.right
  text = own.get(flag, command_flags.FLAGS[flag][wrong])
  if script == "evaluate" and flag == "features" and wrong:
    text = "nowhere|no.where:f|math:f|''"
  if text is None or (wrong and text == ""):
    return []
  return text.split("|") if text else _names(kind)


def _names(kind):
  parts = (kind, *typing.get_args(kind))
  literals = [p for p in parts if typing.get_origin(p) is Literal]
  return [name for part in literals for name in typing.get_args(part)]
