"""recipes.critics: the mean of a batch in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.recipes import critics


@pytest.mark.parametrize("number", [3 * critics.PART, critics.PART, 100])
def test_the_mean_of_parts_is_the_mean(number):
  keys = jax.random.split(jax.random.key(0))
  x, y = (jax.random.normal(key, (number, 3)) for key in keys)
  fn = lambda w, x, y: jnp.sum(jnp.sin(w * x)) * jnp.sum(y)
  plain = lambda w: jnp.mean(jax.vmap(lambda x, y: fn(w, x, y))(x, y))
  parts = lambda w: critics.mean(lambda x, y: fn(w, x, y), x, y)
  one, other = (jax.value_and_grad(f)(jnp.float32(0.7)) for f in (plain, parts))
  np.testing.assert_allclose(other, one, rtol=1e-5)


def test_a_part_has_rows_of_all_the_batch(monkeypatch):
  """Of every device's share: the two parts hold every other row."""
  parts = []

  def in_turn(fn, xs):
    parts.append(xs[0])
    return jax.vmap(fn)(xs)

  monkeypatch.setattr(jax.lax, "map", in_turn)
  rows = np.arange(2.0 * critics.PART, dtype="float32")
  found = critics.mean(lambda x: x, jnp.asarray(rows))
  np.testing.assert_allclose(found, rows.mean())
  np.testing.assert_array_equal(parts[0], [rows[::2], rows[1::2]])
