"""The comparison of the other tests sees what differs."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import trees

Pair = collections.namedtuple("Pair", "a b")
TREE = Pair({"x": jnp.ones((2, 1)), "n": jnp.int32(3)}, (jax.random.key(0),))


def _with(**leaves):
  return TREE._replace(a=TREE.a | leaves)


DIFFERENT = {
  "a scalar for an array": _with(x=jnp.ones(())),
  "another rank": _with(x=jnp.ones((1, 2, 1))),
  "another size": _with(x=jnp.ones((2, 2))),
  "an integer": _with(x=jnp.ones((2, 1), jnp.int32)),
  "half precision": _with(x=jnp.ones((2, 1), jnp.bfloat16)),
  "double precision": _with(x=np.ones((2, 1))),
  "a float": _with(n=jnp.float32(3)),
  "a value": _with(x=jnp.ones((2, 1)).at[1].set(2)),
  "not a number": _with(x=jnp.full((2, 1), jnp.nan)),
  "a leaf more": _with(y=jnp.ones(())),
  "none": _with(x=None),
  "a list": TREE._replace(b=list(TREE.b)),
  "a tuple": tuple(TREE),
  "another key": TREE._replace(b=(jax.random.key(1),)),
  "a key of another kind": TREE._replace(b=(jax.random.key(0, impl="rbg"),)),
  "the data of a key": TREE._replace(b=(jax.random.key_data(TREE.b[0]),)),
}


@pytest.mark.parametrize("check", [trees.assert_equal, trees.assert_close])
@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT)
def test_a_difference_is_seen(check, other):
  for pair in ((TREE, other), (other, TREE), (TREE, TREE, other)):
    with pytest.raises(AssertionError):
      check(*pair)


def test_what_is_the_same_passes():
  """On the host or not, weak or strong."""
  weak = jnp.asarray(3)
  assert weak.weak_type
  same = _with(x=np.ones((2, 1), "f"), n=weak)
  trees.assert_equal(TREE, TREE, same)
  trees.assert_close(TREE, TREE, same)
  near = _with(x=np.float32([[1 + 1e-5], [1 - 1e-5]]))
  trees.assert_close(TREE, near, rtol=2e-5)
  trees.assert_close(TREE, near, atol=2e-5)
  with pytest.raises(AssertionError):
    trees.assert_close(TREE, near)
  with pytest.raises(AssertionError):
    trees.assert_equal(TREE, near)
