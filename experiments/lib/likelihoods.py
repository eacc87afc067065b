"""Log-likelihoods of a run's held-out data, and the kind of each figure.

A model with labels gives up to three figures for the same examples: given
their own labels, as a mixture over all labels with equal weights,

  log p(x) = log mean_y p(x | y),

and with the null label, if it was trained. The last two are log-likelihoods of
the examples alone.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.experiment import Experiment

MAX_EXAMPLES = 2000


class Row(NamedTuple):
  """The mean over held-out examples of one log-likelihood.

  Attributes:
    condition: "given labels", "mixture over labels", "without labels" or, for
      the distribution that the data come from, "true density".
    kind: exact, lower bound or estimate.
    of: what has this probability: levels or a density.
    nats: mean log-likelihood per example.
    standard_error: over the examples, in nats.
    draw_error: part of it from the random draws, in nats; 0 if exact.
    bits_per_dim: -nats / (D log 2), D the mean number of entries scored.
  """

  condition: str
  kind: str
  of: str
  nats: float
  standard_error: float
  draw_error: float
  bits_per_dim: float


def measurer(ex: Experiment, split: str, chunk: int = 500) -> Callable:
  """(params, extras, key) -> the rows of one split, as `values`."""
  of, size = values(ex, split, chunk), None
  if ex.log_likelihood.num_scored is not None:
    examples = ex.data.split(split)[0][:MAX_EXAMPLES]
    size = ex.log_likelihood.num_scored(examples) / len(examples)

  def measure(params, extras, key):
    found = of(params, extras, key)
    truth = _true_density(ex, split)
    return [row(ex, *item, size) for item in found.items()] + truth

  return measure


def values(ex: Experiment, split: str, chunk: int = 500) -> Callable:
  """(params, extras, key) -> {condition: nats [N, draws] of the examples}.

  Args:
    ex: an experiment with a log_likelihood.
    split: 'train', 'validation' or 'test'; at most MAX_EXAMPLES of its examples
      are used.
    chunk: number of examples computed together.

  Returns:
    A function of {player: averaged parameters}, the extras of the losses and a
    key for random draws, which compiles once.
  """
  num_classes = ex.data.num_classes
  examples, labels = (
    part if part is None else part[:MAX_EXAMPLES]
    for part in ex.data.split(split)
  )
  draws = _draws(ex, examples, chunk)

  def of_all(params, extras, key):
    of = functools.partial(draws, params, extras, key)
    given = lambda label: of(np.full(len(examples), label))
    found = {}
    if num_classes and labels is not None:
      found["given labels"] = of(labels)
      each = np.stack([given(label) for label in range(num_classes)])
      mixture = np.logaddexp.reduce(each) - math.log(num_classes)
      found["mixture over labels"] = mixture
    if not num_classes:
      found["without labels"] = of(None)
    elif getattr(ex.config, "label_dropout", 0):
      found["without labels"] = given(num_classes)
    return found

  return of_all


def _true_density(ex, split):
  """The row of the distribution that the data come from, if it is known."""
  known = ex.data.distribution
  if known is None or known.log_prob is None:
    return []
  examples = ex.data.split(split)[0][:MAX_EXAMPLES]
  truth = np.asarray(jax.jit(jax.vmap(known.log_prob))(examples))[:, None]
  exact = ex.log_likelihood._replace(kind="exact")
  return [row(ex._replace(log_likelihood=exact), "true density", truth)]


def _draws(ex, examples, chunk):
  """(params, extras, key, labels [N] or None) -> nats [N, draws], float64."""
  how, size = ex.log_likelihood, min(chunk, len(examples))

  @jax.jit
  def some(params, extras, key, index, examples, labels):
    def one(i, example, label):
      own = jax.random.fold_in(key, i)
      return how.log_prob(params, extras, own, example, label)

    return jax.vmap(one)(index, examples, labels)

  def draw(params, extras, key, labels):
    parts = []
    for first in range(0, len(examples), size):
      # All chunks have the same size, so one compilation; the surplus is cut.
      index = np.arange(first, first + size)
      rows = index % len(examples)
      own = None if labels is None else jnp.asarray(labels[rows], "int32")
      parts.append(some(params, extras, key, index, examples[rows], own))
    return np.concatenate(parts)[: len(examples)].astype(np.float64)

  def many(params, extras, key, labels):
    keys = [jax.random.fold_in(key, i) for i in range(how.num_draws)]
    drawn = [draw(params, extras, each, labels) for each in keys]
    return np.stack(drawn, 1)

  return many


def row(
  ex: Experiment, condition: str, nats: np.ndarray, size: float | None = None
) -> Row:
  """The row of log-likelihoods [N, draws] in nats.

  Args:
    ex: the experiment.
    condition: as in Row.
    nats: the log-likelihoods.
    size: mean number of entries scored in an example; None for all.
  """
  how = ex.log_likelihood
  means, draws = nats.mean(1), nats.shape[1]
  mean, number = float(means.mean()), len(means)
  error = float(means.std(ddof=1)) / math.sqrt(number) if number > 1 else 0.0
  spread = nats.var(1, ddof=1).mean() / draws / number if draws > 1 else 0.0
  size = math.prod(ex.data.shape) if size is None else size
  bits = -mean / (size * math.log(2))
  return Row(condition, how.kind, how.of, mean, error, math.sqrt(spread), bits)


def table(rows: list[Row]) -> str:
  """The rows as a table of text."""
  head = f"{'log-likelihood':<22}{'kind':<13}{'nats':>20}{'bits/dim':>10}  of"
  lines = [
    f"{row.condition:<22}{row.kind:<13}"
    f"{f'{row.nats:.3f} +- {row.standard_error:.3f}':>20}"
    f"{row.bits_per_dim:>10.4f}  {row.of}"
    for row in rows
  ]
  return "\n".join([head, *lines])
