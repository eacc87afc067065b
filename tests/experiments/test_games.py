"""lib.games: what games of two laws share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lib import games


@pytest.mark.parametrize("number", [3 * games.PART, games.PART, 100])
def test_the_mean_of_parts_is_the_mean(number):
  keys = jax.random.split(jax.random.key(0))
  x, y = (jax.random.normal(key, (number, 3)) for key in keys)
  fn = lambda w, x, y: jnp.sum(jnp.sin(w * x)) * jnp.sum(y)
  plain = lambda w: jnp.mean(jax.vmap(lambda x, y: fn(w, x, y))(x, y))
  parts = lambda w: games.mean(lambda x, y: fn(w, x, y), x, y)
  one, other = (jax.value_and_grad(f)(jnp.float32(0.7)) for f in (plain, parts))
  np.testing.assert_allclose(other, one, rtol=1e-5)


def test_a_part_has_rows_of_all_the_batch(monkeypatch):
  """Of every device's share: the two parts hold every other row."""
  parts = []

  def in_turn(fn, xs):
    parts.append(xs[0])
    return jax.vmap(fn)(xs)

  monkeypatch.setattr(jax.lax, "map", in_turn)
  rows = np.arange(2.0 * games.PART, dtype="float32")
  found = games.mean(lambda x: x, jnp.asarray(rows))
  np.testing.assert_allclose(found, rows.mean())
  np.testing.assert_array_equal(parts[0], [rows[::2], rows[1::2]])


def test_losses_of_a_map_against_a_potential():
  f = lambda a, y: a * jnp.sum(y)
  move = lambda b, x: x + b
  half = lambda x, y: jnp.sum((x - y) ** 2) / 2
  of_map, of_potential = games.against(f, move, half)
  x, y = np.random.default_rng(0).normal(size=(2, 50, 2)).astype("float32")
  a, b = jnp.float32(0.3), jnp.float32(2.0)
  moved = x + 2
  truth = np.mean(0.5 * 8 - 0.3 * moved.sum(1))
  np.testing.assert_allclose(of_map(b, a, x, y), truth, rtol=1e-5)
  truth = 0.3 * np.mean(moved.sum(1)) - 0.3 * np.mean(y.sum(1))
  np.testing.assert_allclose(of_potential(b, a, x, y), truth, rtol=1e-5)
