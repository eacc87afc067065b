"""The losses of experiments.bridge, with networks that are known functions."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lib import datasets
from experiments.recipes import bridges, restoration
from jaxgen.data import bridges as exact
from tests.experiments import scripts

NUMBER = 20_000


def of_net(function):
  """A net whose parameters are a function's: (params, x, c) -> output."""
  apply = lambda params, x, c, label, **how: function(params, x, c)
  return types.SimpleNamespace(apply=apply)


@pytest.mark.parametrize("player", bridges.PLAYERS)
def test_the_exact_drift_is_the_optimum(player):
  """Of independent N(-1, I) and N(2, I); the loss there is by quadrature."""
  ends = dict(data="gaussian:2:-1", source="gaussian:2:2")
  how = dict(method="matching", bridge_std=0.8, **ends)
  config = scripts.small("bridge", "", **how)
  data, source = map(datasets.load_data, (config.data, config.source))
  model, eye = bridges.make(config, data, source), np.eye(2)
  law = exact.schrodinger(-np.ones(2), eye, 2 * np.ones(2), eye, std=0.8)
  law = law._replace(cross=0 * eye)

  def net(params, scaled, t):
    drift = getattr(law, player)(scaled * model.spread(t), t) / model.speed
    return params[0] * drift + params[1] + params[2] * scaled

  loss_fn = bridges.make_loss(config, model._replace(net=of_net(net)), player)
  rng = np.random.default_rng(0)
  batch = rng.normal(size=(2, NUMBER, 2)) + np.array([-1, 2])[:, None, None]
  batch = tuple(jnp.asarray(batch, jnp.float32))

  def mean(params):
    found = loss_fn({player: params}, {}, jax.random.key(0), batch, 0)
    return found[0]

  run = jax.jit(jax.value_and_grad(mean))
  value, slope = run(jnp.array([1.0, 0.0, 0.0]))
  _, away = run(jnp.zeros(3))
  assert np.abs(slope).max() < 0.03 * np.abs(away).max()
  # The ends given x_t have the variance 1 - t^2 / V, times 1 / left^2.
  left = (np.arange(10_000) + 0.5) / 10_000 * 0.998 + 0.001
  total = (1 - left) ** 2 + left**2 + 0.64 * left * (1 - left)
  rest = 1 - (1 - left) ** 2 / total
  expected = np.mean(left * rest / left**2) / model.speed**2
  np.testing.assert_allclose(value, expected, rtol=0.03)


@pytest.mark.parametrize("constant", [0.0, 0.7])
def test_the_loss_of_restoration(constant):
  """source = data + 1, net = c: E[(t - c)^2 + 1 - t^2], t uniform to 1."""
  config = scripts.small("paired", "", bridge_std=1.0)
  data = datasets.load_data("digits")
  pairs = restoration.partners(config, data)
  model = restoration.make(config, data, pairs)
  net = of_net(lambda params, x, c: jnp.full_like(x, constant))
  loss_fn = restoration.make_loss(model._replace(net=net))
  x = jnp.asarray(pairs["train"][0][:512])
  loss, _ = jax.jit(loss_fn)({}, jax.random.key(0), (x, x + 1))
  t = np.linspace(0.01, 1, 2001)
  expected = np.mean((t - constant) ** 2 + 1 - t**2)
  np.testing.assert_allclose(loss, expected, rtol=0.02)


def test_the_network_sees_the_source_only_if_asked():
  config = scripts.small("paired", "")
  data = datasets.load_data("digits")
  pairs = restoration.partners(config, data)
  x = jnp.ones(data.shape)
  for condition in (True, False):
    model = restoration.make(config, data, pairs)._replace(condition=condition)
    seen = []
    net = of_net(lambda params, x, c, seen=seen: seen.append(x) or x)
    model._replace(net=net).denoiser({})(x, 0.5, 3 * x)
    width = 1 + condition
    assert seen[0].shape == (8, 8, width)
    if condition:
      np.testing.assert_allclose(seen[0][..., 1], 3 / model.scale, rtol=1e-6)
