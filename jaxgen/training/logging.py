"""Records of a run: metrics in a JSONL file, progress on the screen.

A record is one line, {"step": 100, "seconds": 1.5, "loss": 0.25, ...}. After
a crash the file is truncated to the step resumed from, so that it ends up equal
to an unbroken run's, except for the seconds.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Log = Callable[[int, dict[str, float]], None]


class Progress(NamedTuple):
  """The progress of a run.

  Attributes:
    log: (step, {name: float}) -> None, to be called from time to time; the
      speed shown is that since the last call, or since `begin`.
    begin: step -> None, to be called once the first step, which compiles, is
      done; the speed then leaves it out.
  """

  log: Log
  begin: Callable[[int], None]


def jsonl(path: str | pathlib.Path, step: int) -> Log:
  """Opens the metrics file of a run that starts at a step.

  Records beyond the step, and an incomplete last line, are dropped first.

  Args:
    path: the file; created with the first record.
    step: steps already done; 0 drops every record.

  Returns:
    (step, {name: float}) -> None, which appends one record: the step, the
    seconds of training (including those before an interruption) and the
    metrics. NaN and infinity are written as Python's json does.

  Raises:
    ValueError: a line before the last is not a record.
    OSError: a record could not be written (full disk); also from log.
  """
  path = pathlib.Path(path)
  kept = [r for r in read(path) if r["step"] <= step] if path.exists() else []
  if path.exists():
    part = path.with_name(path.name + ".part")
    with _writing(path):
      part.write_text("".join(json.dumps(r) + "\n" for r in kept))
      os.replace(part, path)
  begun = time.monotonic() - (kept[-1].get("seconds", 0.0) if kept else 0.0)

  def log(step: int, metrics: dict[str, float]) -> None:
    seconds = round(time.monotonic() - begun, 3)
    values = {name: float(value) for name, value in metrics.items()}
    line = json.dumps({"step": step, "seconds": seconds} | values)
    with _writing(path), path.open("a") as file:
      file.write(line + "\n")

  return log


@contextlib.contextmanager
def _writing(path):
  """Adds advice to errors such as a full disk."""
  try:
    yield
  except OSError as error:
    raise OSError(
      f"{path}: cannot be written ({error.strerror}); free space and run the"
      " same command again"
    ) from error


@contextlib.contextmanager
def tensorboard(directory: str | pathlib.Path, step: int = 0) -> Iterator[Log]:
  """Yields a log of scalars for TensorBoard.

  Args:
    directory: folder of the event files.
    step: steps already done; TensorBoard hides what was logged beyond.

  Raises:
    ImportError: tensorboardX is not installed.
  """
  try:
    import tensorboardX
  except ImportError:
    raise ImportError("TensorBoard: pip install tensorboardX") from None
  writer = tensorboardX.SummaryWriter(str(directory), purge_step=step + 1)
  try:

    def log(step: int, metrics: dict[str, float]) -> None:
      for name, value in metrics.items():
        writer.add_scalar(name, value, step)
      writer.flush()

    yield log
  finally:
    writer.close()


@contextlib.contextmanager
def wandb(
  run_dir: str | pathlib.Path, config: Mapping[str, Any]
) -> Iterator[Log]:
  """Yields a log to Weights & Biases, one run for each run directory.

  Its environment variables apply: WANDB_PROJECT, WANDB_MODE=offline and so on.

  Args:
    run_dir: the run directory; a resumed run continues its log.
    config: the settings.

  Raises:
    ImportError: wandb is not installed.
  """
  try:
    import wandb as client
  except ImportError:
    raise ImportError("Weights & Biases: pip install wandb") from None
  path = pathlib.Path(run_dir).absolute()
  own = hashlib.sha256(str(path).encode()).hexdigest()[:16]
  how: dict[str, Any] = dict(name=path.name, id=own, resume="allow")
  with client.init(dir=str(path), config=dict(config), **how) as run:
    yield lambda step, metrics: run.log(metrics, step=step)


def read(path: str | pathlib.Path) -> list[dict[str, Any]]:
  """The records of a metrics file, without an incomplete last line.

  Args:
    path: the file.

  Returns:
    One dict per record, in the order written.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line before the last is not a record.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such metrics file")
  *lines, _ = path.read_text().split("\n")  # no incomplete line
  records = []
  for number, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      record = None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
      raise ValueError(
        f"{path}: line {number}: expected a record, got {line[:40]!r}; "
        "delete the line"
      )
    records.append(record)
  return records


def best(
  records: Iterable[Mapping[str, Any]], name: str, better: Callable = min
) -> tuple[int, float] | None:
  """The step and value of a curve's best record, the first if there are equals.

  Args:
    records: from `read`.
    name: name of the value, such as "held_out"; records without it, or where it
      is not finite, are passed over.
    better: min for losses, max for log-likelihoods.

  Returns:
    (step, value), or None if there is no finite value.
  """
  found = [(r["step"], r[name]) for r in records if name in r]
  found = [pair for pair in found if math.isfinite(pair[1])]
  return better(found, key=lambda pair: pair[1]) if found else None


@contextlib.contextmanager
def progress(num_steps: int, step: int = 0) -> Iterator[Progress]:
  """Shows the progress of a run: loss, steps/s, time left.

  A bar if standard error is a terminal, otherwise one plain line per record.

  Args:
    num_steps: total number of steps.
    step: steps already done.

  Yields:
    The functions to call.
  """
  with _bar(num_steps, step) if sys.stderr.isatty() else _lines() as show:
    before = step, time.monotonic()

    def log(done: int, metrics: dict[str, float]) -> None:
      nonlocal before
      now = done, time.monotonic()
      rate = (now[0] - before[0]) / max(now[1] - before[1], 1e-9)
      before = now
      left = _clock((num_steps - done) / rate) if rate > 0 else "?"
      values = " ".join(f"{name} {v:.4g}" for name, v in metrics.items())
      show(done, f"{values}  {rate:.3g} steps/s  {left} left")

    def begin(done: int) -> None:
      nonlocal before
      before = done, time.monotonic()

    yield Progress(log, begin)


@contextlib.contextmanager
def _bar(num_steps, step):
  from rich import console
  from rich import progress as bars

  columns = (
    bars.BarColumn(bar_width=24),
    bars.MofNCompleteColumn(),
    bars.TextColumn("{task.description}"),
  )
  err = console.Console(stderr=True)
  with bars.Progress(*columns, console=err) as bar:
    task = bar.add_task("", total=num_steps, completed=step)
    yield lambda done, text: bar.update(task, completed=done, description=text)


@contextlib.contextmanager
def _lines():
  yield lambda done, text: print(f"step {done}  {text}", file=sys.stderr)


def _clock(seconds):
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}"
