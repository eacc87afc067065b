"""The Markov chains of token solvers, enumerated on six bits."""

import itertools

import numpy as np

from tests import bits

MASK = 2
TABLE = bits.perturbed(bits.conditionals(bits.joint()))
NULL = bits.perturbed(bits.conditionals(bits.joint(3)), 4)
START = np.full(6, MASK)
GIVEN = np.array([MASK, 1, MASK, MASK, 0, MASK])


def start_chance(start=START):
  chance = np.zeros(len(bits.TOKENS))
  chance[bits.index(start)] = 1
  return chance


def levels_of(table, row, entries):
  """(levels of the entries, their probability), all combinations."""
  for values in itertools.product((0, 1), repeat=len(entries)):
    p = table[row, list(entries)]
    yield values, np.prod(np.where(np.array(values) == 1, p, 1 - p))


def moved(chance, entries):
  """One step whose entries [729, 6, 3] are independent given the state."""
  after = np.array([chance]).T
  for entry in entries.swapaxes(0, 1):
    after = (after[:, :, None] * entry[:, None]).reshape(len(chance), -1)
  return after.sum(0)


def unmask_chain(times, remask=0.0, table=TABLE, start=START):
  """Probabilities of token states after random unmasking with remasking."""
  chance, given = start_chance(start), start != MASK
  hidden = (bits.TOKENS == MASK)[..., None]
  as_is = np.eye(3)[bits.TOKENS]
  drawn = np.stack([1 - table, table, np.zeros_like(table)], -1)
  for r, s in itertools.pairwise(times):
    q = remask * (min(1, s / (1 - r)) if r < 1 else 1)
    stay = (s - q * (1 - r)) / r
    again = (q * ~given)[:, None] * np.eye(3)[MASK]
    shown = again + (1 - q * ~given)[:, None] * as_is
    masked = stay * np.eye(3)[MASK] + (1 - stay) * drawn
    chance = moved(chance, np.where(hidden, masked, shown))
  return chance


def confident_chain(times, table=TABLE, start=START):
  """The same for confidence without noise, which is deterministic in ranks."""
  chance, count = start_chance(start), (start == MASK).sum()
  for s in times[1:]:
    after = np.zeros_like(chance)
    for row in np.flatnonzero(chance):
      tokens = bits.TOKENS[row]
      hidden = np.flatnonzero(tokens == MASK)
      for values, c in levels_of(table, row, hidden):
        p = table[row, hidden]
        known = np.where(np.array(values) == 1, p, 1 - p)
        new = tokens.copy()
        new[hidden] = values
        new[hidden[np.argsort(known)][: int(s * count + 1e-9)]] = MASK
        after[bits.index(new)] += chance[row] * c
    chance = after
  return chance


def one_by_one_chain(entries_of, table=TABLE, start=START):
  """One entry a step, among entries_of(step, hidden) with equal chances."""
  chance = start_chance(start)
  for n in range(6):
    after = np.zeros_like(chance)
    for row in np.flatnonzero(chance):
      tokens = bits.TOKENS[row]
      entries = entries_of(n, np.flatnonzero(tokens == MASK))
      if not len(entries):
        after[row] += chance[row]
      for entry in entries:
        for (value,), c in levels_of(table, row, [entry]):
          new = tokens.copy()
          new[entry] = value
          after[bits.index(new)] += chance[row] * c / len(entries)
    chance = after
  return chance


def jump_chain(times):
  chance = np.zeros(len(bits.TOKENS))
  chance[bits.index(bits.STATES)] = 1 / 64
  drawn = np.stack([1 - TABLE, TABLE, np.zeros_like(TABLE)], -1)
  for r, s in itertools.pairwise(times):
    stays = s / r * np.eye(3)[bits.TOKENS]
    chance = moved(chance, stays + (1 - s / r) * drawn)
  return chance
