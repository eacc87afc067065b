"""Draws random command lines, right and wrong, that carry every flag.

The values of each flag are in command_flags.toml; the presets and runs here are
what they go together with.
"""

import collections
import dataclasses
import importlib
import pathlib
import random
import shlex
import tomllib
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from benchmarks import trained

# The runs that lines name, by what becomes of TRAINED/.
SMALL = "--num-steps 4 --save-every 2 --keep 2 --snapshot-every 1"
AVERAGES = "--ema-decay 0.9 0.99 --ema-length 0.1"
TINY = "--warmup-steps 0 --batch-size 8 --width 8 --num-blocks 1"
TRAINED = {
  "toy": f"edm toy {SMALL} {AVERAGES} {TINY} --sample-steps 2",
  "digits": f"edm smoke {SMALL} {AVERAGES} {TINY} --sample-steps 2",
  "flow": f"flow_matching pair {SMALL} {AVERAGES} {TINY} --sample-steps 2",
  "gan": f"gan smoke {SMALL} {AVERAGES} --batch-size 8 --width 8",
  "w1": "wasserstein points --num-steps 2 --batch-size 8 --num-cones 4",
}
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
TOYS = "gaussian|eight_gaussians|ring|moons|s_curve|checkerboard|swiss_roll"
FLOW = "|".join(trained.choices.FLOW_SOLVERS)
VELOCITY = "|".join(
  name
  for name, make in trained.choices.FLOW_SOLVERS.items()
  if len(make().needs) == 1
)
NO_DATA = "nosuch|''|file:|file:FILES/no.npz|file:FILES/damaged.npz|folder:no"
COUNT = "0|-3|1.5|many|''"
POSITIVE = "0|-1|nan|inf|1e999|much|''"
WORD = "nosuch|''"


Values = Mapping[str, str | None]


class Base(NamedTuple):
  """A preset, or a run, that any right values go together with.

  Attributes:
    words: what the line starts with.
    always: flags of every line, which keep it small.
    right, wrong: values that are this base's own; None for none.
  """

  words: str
  always: str
  right: Values
  wrong: Values


def _read():
  """Of command_flags.toml: {flag: (right, wrong)}, None for no value, lines of
  settings that do not fit together by script, and bases by script.
  """
  path = pathlib.Path(__file__).with_name("command_flags.toml")
  found = tomllib.loads(path.read_text())
  names = dict(TOYS=TOYS, NO_DATA=NO_DATA, COUNT=COUNT, POSITIVE=POSITIVE)
  names |= dict(WORD=WORD, FLOW=FLOW, VELOCITY=VELOCITY)
  text = lambda value: None if value == "-" else value.format(**names)
  flags = {k: tuple(map(text, pair)) for k, pair in found["flags"].items()}
  sets = found["sets"] | dict(ONE_CALL=dict.fromkeys(trained.SAMPLING, "-"))

  def values(given):
    merged: dict = {}
    for name in given.pop("sets", ()):
      merged |= sets[name]
    return {k: text(v) for k, v in (merged | given).items()}

  bases = {
    script: [
      Base(
        b["words"],
        b["always"],
        values(b.get("right", {})),
        values(b.get("wrong", {})),
      )
      for b in found_bases
    ]
    for script, found_bases in found["bases"].items()
  }
  return flags, found["together"], bases


FLAGS, TOGETHER, BASES = _read()


def draw_lines(seed: int, number: int) -> list[dict]:
  """The lines: script, words, whether right, and what a message may name."""
  lines = []
  for script, share in SHARES.items():
    of_script = max(2, round(share * number / sum(SHARES.values())))
    kinds = types(script)
    seen, broken = collections.Counter(), collections.Counter()
    draw = random.Random(f"{seed} {script}")
    joint = list(TOGETHER[script])
    draw.shuffle(joint)
    for i in range(of_script):
      base = BASES[script][i // 2 % len(BASES[script])]
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
  """A line of settings that do not fit together."""
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


def shown(line: dict) -> str:
  """The line as it is typed."""
  return f"{line['script']} {shlex.join(line['words'])}"


def types(script: str) -> dict[str, Any]:
  """{flag: type} of a script's settings.

  Raises:
    ValueError: a flag that has no values here.
  """
  kind = importlib.import_module(f"experiments.{script}").Config
  found = {field.name: field.type for field in dataclasses.fields(kind)}
  if missing := found.keys() - FLAGS.keys():
    raise ValueError(f"{script}: no values for {', '.join(sorted(missing))}")
  return found


def values(script: str, base: Base, flag: str, kind: Any, wrong: bool) -> list:
  """The values of a flag on this base, [] for none."""
  own = base.wrong if wrong else base.right
  text = own.get(flag, FLAGS[flag][wrong])
  if script == "evaluate" and flag == "features" and wrong:
    text = "nowhere|no.where:f|math:f|''"
  if text is None or (wrong and text == ""):
    return []
  return text.split("|") if text else _names(kind)


def _names(kind):
  parts = (kind, *typing.get_args(kind))
  literals = [p for p in parts if typing.get_origin(p) is Literal]
  return [name for part in literals for name in typing.get_args(part)]
