"""Penalties on a critic's slope: their own gradients, and linear critics.

Those of losses.wasserstein and the zero-centred one of losses.adversarial.
"""

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses import adversarial, wasserstein
from tests import expect

PENALTIES = dict(
  gradient_penalty=wasserstein.gradient_penalty,
  lipschitz_penalty=wasserstein.lipschitz_penalty,
  divergence_penalty=wasserstein.divergence_penalty,
  zero_centred=adversarial.zero_centred,
)
by_penalty = pytest.mark.parametrize("name", PENALTIES)


def network(params, x):
  return params["out"] @ jnp.tanh(params["in"] @ x + params["bias"])


def start(out=1.5):
  rng = np.random.default_rng(2)
  return {
    "in": jnp.asarray(rng.standard_normal((4, 3))),
    "bias": jnp.asarray(rng.standard_normal(4)),
    "out": jnp.asarray(out * rng.standard_normal(4)),
  }


@by_penalty
def test_penalties_have_the_slopes_of_finite_differences(name):
  """With respect to the parameters: through the gradient of the network."""
  with jax.enable_x64(True):
    points = jnp.asarray(np.random.default_rng(3).standard_normal((6, 3)))
    flat, unravel = jax.flatten_util.ravel_pytree(start())

    def mean(flat):
      critic = lambda x: network(unravel(flat), x)
      return jax.vmap(lambda x: PENALTIES[name](critic, x))(points).mean()

    step = 1e-5 * jnp.eye(len(flat))
    run = jax.jit(
      lambda flat: (
        jax.grad(mean)(flat),
        jax.vmap(lambda d: mean(flat + d))(step),
        jax.vmap(lambda d: mean(flat - d))(step),
      )
    )
    slope, more, less = jax.device_get(run(flat))
  assert np.abs(slope).min() > 1e-4
  np.testing.assert_allclose(slope, (more - less) / 2e-5, rtol=1e-6, atol=1e-8)


def by_hand(size):
  """The penalties of a slope of this size, and their derivatives to it."""
  return dict(
    gradient_penalty=((size - 1) ** 2, 2 * (size - 1)),
    lipschitz_penalty=(max(size - 1, 0) ** 2, 2 * max(size - 1, 0)),
    divergence_penalty=(size**6, 6 * size**5),
    zero_centred=(size**2, 2 * size),
  )


@by_penalty
@pytest.mark.parametrize("size", [0.4, 2.0])
def test_penalties_of_a_linear_critic(name, size):
  direction, x = np.array([2.0, -3.0, 6.0]) / 7, jnp.ones(3)
  penalty = lambda w: PENALTIES[name](lambda x: w @ x, x)
  value, slope = jax.jit(jax.value_and_grad(penalty))(
    jnp.float32(size * direction)
  )
  truth, rate = by_hand(size)[name]
  np.testing.assert_allclose(value, truth, rtol=1e-5)
  np.testing.assert_allclose(slope, rate * direction, rtol=1e-5, atol=1e-7)


@by_penalty
def test_penalties_of_a_flat_critic_have_slope_zero(name):
  params, x = start(out=0.0), jnp.ones(3)
  penalty = lambda p: PENALTIES[name](lambda x: network(p, x), x)
  value, slopes = jax.jit(jax.value_and_grad(penalty))(params)
  assert value == (name == "gradient_penalty")
  jax.tree.map(lambda s: np.testing.assert_array_equal(s, 0 * s), slopes)


def test_divergence_penalty_of_another_power():
  critic = lambda x: 3 * x[0] + 4 * x[1]
  found = wasserstein.divergence_penalty(critic, jnp.ones(2), 1.5)
  np.testing.assert_allclose(found, 5**1.5, rtol=1e-6)
  np.testing.assert_allclose(wasserstein.slope(critic, jnp.ones(2)), 5, 1e-6)


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_values_of_images(self):
    """A critic <w, x>^2 / 2 on [2, 2, 1], whose slope is <w, x> w."""
    w, x = np.random.default_rng(4).standard_normal((2, 2, 2, 1), "float32")
    critic = lambda x: jnp.sum(w * x) ** 2 / 2
    found = self.variant(lambda x: everything(critic, x))(jnp.asarray(x))
    truth = by_hand(abs((w * x).sum()) * np.linalg.norm(w))
    truth = {name: value for name, (value, _) in truth.items()}
    expect.scalars(found, truth, rtol=2e-5)


def everything(critic, x):
  return {name: penalty(critic, x) for name, penalty in PENALTIES.items()}


def test_one_trace_and_vmap_is_a_loop():
  x = jnp.asarray(np.random.default_rng(5).standard_normal((3, 3)), "float32")
  critic = lambda x: network(start(), x)
  expect.a_loop(lambda x: everything(critic, x), x, rtol=1e-5)


@by_penalty
def test_a_critic_of_many_values_is_refused(name):
  said = "potential: expected a scalar"
  expect.error(said, PENALTIES[name], jnp.tanh, jnp.ones(3))


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0, -2.0, float("nan")])
def test_a_power_of_at_most_one_is_refused(power):
  penalty, x = wasserstein.divergence_penalty, jnp.ones(3)
  expect.error("power: expected above 1, got", penalty, jnp.sum, x, power)
