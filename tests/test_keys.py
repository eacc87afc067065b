"""keys: one typed key passes, everything else is named in one line."""

import jax
import jax.numpy as jnp
import pytest

from jaxgen import keys
from tests import expect


def test_a_typed_key_passes():
  assert keys.require_typed(jax.random.key(0)) is None
  jax.jit(keys.require_typed)(jax.random.key(1))
  jax.vmap(keys.require_typed)(jax.random.split(jax.random.key(2), 3))


@pytest.mark.parametrize(
  "key",
  [0, None, jnp.zeros(2, jnp.uint32), jnp.zeros(()), jax.random.PRNGKey],
  ids=["int", "None", "legacy", "float", "function"],
)
def test_what_is_no_typed_key(key):
  expect.error("key: expected a typed key", keys.require_typed, key)


@pytest.mark.parametrize("shape", [(1,), (2,), (2, 3)])
def test_several_keys_are_named_by_their_shape(shape):
  several = jax.random.split(jax.random.key(0), shape)
  expect.error("expected one key, got shape", keys.require_typed, several)
