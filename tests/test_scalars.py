"""Settings of every kind of scalar are the same Python floats."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxgen import levels, paths, predictions
from tests import expect, trees

KINDS = (int, np.int64, np.float32, np.float64, np.asarray)
JAX_KINDS = (jnp.float32, jnp.bfloat16, jnp.asarray, ml_dtypes.bfloat16)
CONSTRUCTORS = {
  "edm": (paths.edm, dict(t_min=2, t_max=4)),
  "vp": (paths.vp, dict(beta_min=2, beta_max=4)),
  "cosine": (paths.cosine, dict(offset=2)),
  "row": (predictions.edm, dict(sigma_data=2)),
}
by_name = pytest.mark.parametrize("name", CONSTRUCTORS)


@by_name
def test_equal_settings_give_one_object(name):
  constructor, settings = CONSTRUCTORS[name]
  # Whichever is first must leave no dtype behind for those after.
  for kind in (*JAX_KINDS, *KINDS):
    given = {key: kind(value) for key, value in settings.items()}
    found = constructor(**given)
    assert found is constructor(**settings) is constructor(*given.values())
  if name == "edm":
    assert type(found.t_min) is type(found.t_max) is float
    assert paths.edm() is paths.edm(0.002, 80.0) is paths.edm(t_max=80.0)
  half = jnp.bfloat16(0.5)
  if name == "row":
    assert found(paths.linear(), half)[0].dtype == jnp.bfloat16
  else:
    assert found.alpha(half).dtype == found.sigma(half).dtype == jnp.bfloat16


@by_name
def test_what_is_no_number_is_rejected_in_a_line(name):
  constructor, settings = CONSTRUCTORS[name]
  first = next(iter(settings))
  rest = {key: settings[key] for key in list(settings)[1:]}
  bad = ("2", None, 2j, np.ones(2), jnp.ones((1,)), np.asarray("2"), [2.0])
  for value in bad:
    said, wrong = f"{first}: expected one number", {first: value}
    expect.error(said, constructor, **wrong, **rest)
  traced = jax.jit(lambda value: constructor(**{first: value}, **rest))
  expect.error(f"{first}: expected .* a traced value", traced, 2.0)


def test_levels_take_every_kind():
  path, t = paths.linear(), jnp.array([0.2, 0.4])
  key = jax.random.key(0)

  def found(kind, key):
    settings = (kind(-1), kind(2), kind(1), kind(8))
    return (
      levels.logit_normal(key, path, (5,), *settings),
      levels.logit_normal_density(path, *settings)(t),
      levels.uniform_density(path, *settings[2:])(t),
      levels.edm_weight(path, kind(2))(t),
      levels.min_snr_weight(path, kind(5))(t),
      levels.sigmoid_weight(path, kind(-1))(t),
      predictions.preconditioned(lambda x, c: x, path, kind(2))[0](t, 0.5),
    )

  with jax.debug_key_reuse(False):
    truth = found(float, key)
    assert all(leaf.dtype == jnp.float32 for leaf in truth)
    trees.assert_equal(truth, found(np.float32, key), found(jnp.asarray, key))
  draw = jax.jit(lambda mean: levels.logit_normal(key, path, (5,), mean))
  expect.error("mean: expected one number", draw, 0.5)
