"""A batch-first model through the adapter, one example at a time."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import unbatched
from tests import expect

PARAMS = {"params": {"w": np.eye(3, dtype="float32") * 2}}


def apply(params, x, t, label=None, *, scale=None, key=None, train=False):
  """Batch-first: says so by indexing the batch axis."""
  assert x.ndim == 2 and t.shape == x.shape[:1]
  out = x @ params["params"]["w"] * t[:, None]
  if label is not None:
    out = out + label[:, None]
  if scale is not None:
    out = out * scale[:, None]
  if key is not None:
    out = out + jax.random.normal(key, out.shape)
  return -out if train else out


def test_one_example_is_the_batchs_row():
  x = jax.random.normal(jax.random.key(0), (4, 3))
  t, label = jnp.linspace(0.1, 1, 4), jnp.arange(4)
  one = lambda x, t, label: unbatched.unbatched(apply)(
    PARAMS, x, t, label, scale=t, train=True
  )
  rows = jax.jit(jax.vmap(one))(x, t, label)
  truth = apply(PARAMS, x, t, label, scale=t, train=True)
  np.testing.assert_allclose(rows, truth, atol=1e-6)
  np.testing.assert_allclose(one(x[1], t[1], label[1]), truth[1], atol=1e-6)


def test_python_time_and_keys_pass():
  single = unbatched.unbatched(apply)
  x = np.ones(3, "float32")
  plain = single(PARAMS, x, 0.5)
  np.testing.assert_allclose(plain, x, atol=1e-6)
  noisy = single(PARAMS, x, 0.5, key=jax.random.key(1))
  noise = jax.random.normal(jax.random.key(1), (1, 3))[0]
  np.testing.assert_allclose(noisy - plain, noise, atol=1e-6)


def test_jvp_and_gradient_pass():
  single = unbatched.unbatched(apply)
  x = jnp.array([1.0, 2.0, 3.0])
  value, slope = jax.jvp(lambda t: single(PARAMS, x, t), (0.5,), (1.0,))
  np.testing.assert_allclose(value, x)
  np.testing.assert_allclose(slope, 2 * x)
  hessian = jax.hessian(lambda x: jnp.sum(single(PARAMS, x, 0.5) ** 2))(x)
  np.testing.assert_allclose(hessian, 2 * np.eye(3), atol=1e-6)


def test_a_batch_first_group_norm_is_right_through_the_adapter():
  net = nn.GroupNorm(2)
  x = np.random.default_rng(0).normal(size=(4, 4, 6)).astype("float32")
  params = net.init(jax.random.key(0), x[None])
  single = unbatched.unbatched(lambda params, x, t: net.apply(params, x))
  parts = x.reshape(16, 2, 3)
  gaps = parts - parts.mean((0, 2), keepdims=True)
  truth = gaps / np.sqrt(parts.var((0, 2), keepdims=True) + 1e-6)
  found = single(params, x, 0.0)
  np.testing.assert_allclose(found, truth.reshape(x.shape), atol=1e-5)


def test_batch_statistics_are_refused():
  net = nn.BatchNorm(use_running_average=True)
  variables = net.init(jax.random.key(0), jnp.ones((2, 3)))
  single = unbatched.unbatched(lambda params, x, t: net.apply(params, x))
  said = r"^params: expected no batch_stats"
  expect.error(said, single, variables, jnp.ones(3), 0.5)


@pytest.mark.parametrize(
  "wrong, message",
  [
    (lambda p, x, t: (x, {"batch_stats": {}}), "apply: expected one array"),
    (lambda p, x, t: x[0], r"apply: expected output \[1, ...\], got \(3,\)"),
    (lambda p, x, t: x.sum(), r"apply: expected output \[1, ...\], got \(\)"),
  ],
)
def test_other_outputs_are_refused(wrong, message):
  single = unbatched.unbatched(wrong)
  expect.error(f"^{message}", single, PARAMS, jnp.ones(3), 0.5)
