"""LightSB against the exact plan, of which the loss is a likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import entropic_plans
from jaxgen.losses import light_bridge
from tests import expect

RNG = np.random.default_rng(0)
STD = 0.8


def drawn(num=3, dim=2):
  """Parameters of a potential, in float32."""
  normal = lambda *shape: jnp.asarray(RNG.normal(size=shape), jnp.float32)
  rows = normal(num), normal(num, dim), normal(num, dim) / 2 - 1
  return light_bridge.Params(*rows, normal(num, dim, dim))


def test_the_basis_is_a_rotation():
  params = drawn(4, 3)
  basis = np.asarray(light_bridge.potential(params, STD).basis)
  products = np.einsum("kij,kil->kjl", basis, basis)
  np.testing.assert_allclose(products, np.stack([np.eye(3)] * 4), atol=1e-5)
  np.testing.assert_allclose(np.linalg.det(basis), 1, atol=1e-5)
  assert np.abs(basis - np.eye(3)).max() > 0.5
  # The Cayley transform of a plane's rotation: twice arctan of its entry.
  turns = jnp.zeros((1, 2, 2)).at[0, 0, 1].set(0.5)
  flat = params._replace(turns=turns)
  found = light_bridge.potential(flat, STD).basis[0]
  angle = 2 * np.arctan(0.5)
  truth = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  np.testing.assert_allclose(found, truth, atol=1e-6)


def test_the_loss_is_a_likelihood_and_the_pairing_is_of_no_effect():
  plan = light_bridge.potential(drawn(), STD)
  data, source = jnp.asarray(RNG.normal(size=(2, 5, 2)), jnp.float32)
  loss = jax.jit(jax.vmap(light_bridge.light_bridge, (None, 0, 0)))
  values = loss(plan, data, source)
  likelihood = jax.vmap(plan.log_prob)(data, source)
  inner = jnp.sum(data * source, 1) / STD**2
  np.testing.assert_allclose(values, inner - likelihood, rtol=2e-4, atol=1e-4)
  assert values.dtype == jnp.float32
  mixed = loss(plan, data[::-1], source)
  np.testing.assert_allclose(mixed.mean(), values.mean(), rtol=1e-5)


def test_the_exact_plan_has_the_least_loss_by_the_kl():
  """The loss above the exact one is KL(exact plan | plan), by quadrature."""
  line = lambda **more: entropic_plans.Potential(
    jnp.log(jnp.array([0.3, 0.7])),
    jnp.array([[-1.0], [1.5]]),
    jnp.array([[0.3], [0.6]]),
    None,
    STD,
  )._replace(**more)
  with jax.enable_x64(True):
    exact = line()
    other = line(means=jnp.array([[-0.7], [1.2]]))
    x, y = jnp.linspace(-5, 5, 101), jnp.linspace(-8, 8, 401)
    rows = lambda plan: jax.vmap(
      lambda x: jax.vmap(lambda y: plan.log_prob(y[None], x[None]))(y)
    )(x)
    log, wrong = jax.jit(lambda a, b: (rows(a), rows(b)))(exact, other)
    source = jnp.exp(-(x**2) / 2)
    joint = jnp.exp(log) * (source / source.sum())[:, None]
    joint = joint / joint.sum()
    kl = jnp.sum(joint * (log - wrong))

    def loss(plan):
      normal = jax.vmap(lambda x: plan.log_normalizer(x[None]))(x)
      value = jax.vmap(lambda y: plan.log_potential(y[None]))(y)
      return joint.sum(1) @ normal - joint.sum(0) @ value

    losses = jax.jit(lambda a, b: (loss(a), loss(b)))(exact, other)
    slope = jax.jit(jax.grad(lambda m: loss(line(means=m))))(exact.means)
  np.testing.assert_allclose(losses[1] - losses[0], kl, rtol=1e-6)
  assert float(kl) > 0.05
  np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_training_from_the_start_finds_a_gaussians_plan():
  """Data N(m, S) from N(0, I): Cov(y | x) = V, eps V^-1 - V = eps S^-1..."""
  eps, spread = STD**2, np.array([[1.5, 0.6], [0.6, 0.8]])
  rng = np.random.default_rng(1)
  data = rng.multivariate_normal([1.0, -0.5], spread, 4096)
  source = rng.normal(size=(4096, 2))
  data, source = (
    jnp.asarray((a - a.mean(0)) if a is source else a, jnp.float32)
    for a in (data, source)
  )
  params = light_bridge.start(data[:2], STD, turned=True)
  optimizer = optax.adam(0.03)

  def loss(params):
    plan = light_bridge.potential(params, STD)
    of = jax.vmap(light_bridge.light_bridge, (None, 0, 0))
    return of(plan, data, source).mean()

  def step(carry, _):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return (optax.apply_updates(params, updates), state), None

  run = lambda start: jax.lax.scan(step, start, None, 400)[0][0]
  found = jax.jit(run)((params, optimizer.init(params)))
  plan = light_bridge.potential(found, STD)
  # Cov(source, data) = C with (C + eps I / 2)^2 = S + eps^2 I / 4.
  values, vectors = np.linalg.eigh(np.cov(np.asarray(data).T))
  roots = np.sqrt(values + eps**2 / 4) - eps / 2
  cross = vectors * roots @ vectors.T
  x = jnp.array([0.5, 1.0])
  middle = np.asarray(data).mean(0)
  np.testing.assert_allclose(plan.mean(x), middle + cross @ x, atol=0.06)
  truth = np.cov(np.asarray(data).T) - cross @ cross
  np.testing.assert_allclose(plan.covariance(x), truth, atol=0.06)


def test_start():
  data = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
  params = light_bridge.start(data, STD, turned=False)
  assert params.turns is None
  plan = light_bridge.potential(params, STD)
  spread = np.var(data, 0, ddof=1).mean()
  eps = STD**2
  truth = eps * spread / (eps + spread)
  np.testing.assert_allclose(plan.variances, truth, rtol=1e-5)
  np.testing.assert_allclose(plan.means, truth / spread * data, rtol=1e-5)
  turned = light_bridge.start(data, STD, turned=True)
  np.testing.assert_array_equal(
    light_bridge.potential(turned, STD).basis, np.stack([np.eye(3)] * 4)
  )
  expect.error(
    "data: expected at least 2 examples, got 1",
    light_bridge.start,
    data[:1],
    STD,
    turned=True,
  )
  expect.error(
    "std: expected a positive number, got 0",
    light_bridge.start,
    data,
    0.0,
    turned=True,
  )
