"""Models of six bits in closed form: every joint, conditional and chain."""

import itertools

import jax.numpy as jnp
import numpy as np

NUM_BITS = 6
STATES = np.array(list(itertools.product((0, 1), repeat=NUM_BITS)))  # [64, 6]
TOKENS = np.array(list(itertools.product((0, 1, 2), repeat=NUM_BITS)))
POWERS = 3 ** np.arange(NUM_BITS)[::-1]


def joint(seed: int = 0) -> np.ndarray:
  """Probabilities of the 64 states, far from independent ones."""
  rng = np.random.RandomState(seed)
  return rng.dirichlet(np.full(len(STATES), 0.3))


def conditionals(probability: np.ndarray) -> np.ndarray:
  """P(bit = 1 | visible bits) of each of the 729 token states, [729, 6].

  Token 2 is the mask. Where the visible bits have probability 0, it is 1/2.
  """
  table = np.full((len(TOKENS), NUM_BITS), 0.5)
  for row, tokens in enumerate(TOKENS):
    fits = ((tokens == 2) | (STATES == tokens)).all(1)
    total = probability[fits].sum()
    if total > 0:
      table[row] = (probability[fits, None] * STATES[fits]).sum(0) / total
  return table


def index(tokens: np.ndarray) -> np.ndarray:
  """The row of token states [..., 6]."""
  return (np.asarray(tokens) * POWERS).sum(-1)


def logits_fn(table: np.ndarray):
  """tokens [6] -> logits [6, 1] of the table's probabilities."""
  clipped = np.clip(table, 1e-9, 1 - 1e-9)
  rows = jnp.asarray(np.log(clipped) - np.log1p(-clipped))
  powers = jnp.asarray(POWERS)
  return lambda tokens: rows[(tokens * powers.astype(tokens.dtype)).sum()][
    :, None
  ]


def perturbed(table: np.ndarray, seed: int = 1) -> np.ndarray:
  """A table that is no set of conditionals of any joint, as a network's is."""
  noise = np.random.RandomState(seed).normal(0, 0.7, table.shape)
  clipped = np.clip(table, 0.02, 0.98)
  return 1 / (1 + np.exp(-(np.log(clipped / (1 - clipped)) + noise)))
