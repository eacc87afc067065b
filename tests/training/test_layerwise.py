"""Layers by patterns; multipliers are reparametrisations, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import checkpoint, layerwise, state, step
from tests import expect, trees

PARAMS = {
  "hidden": {
    "kernel": jnp.array([[0.5, -1.2, 0.7]]),
    "bias": jnp.array([0.1, 0.2, -0.3]),
  },
  "out": {"kernel": jnp.array([1.1, -0.4, 0.6]), "bias": jnp.array(0.2)},
}
INPUTS = jnp.array([-1.0, 0.3, 0.9, 2.0])
# Powers of two, by which float32 multiplies exactly.
FACTORS = {"hidden/*": 4.0, "*/bias": 0.5, "*": 2.0}


def loss(params):
  hidden = params["hidden"]

  def net(x):
    h = jnp.tanh(x * hidden["kernel"][0] + hidden["bias"])
    return params["out"]["kernel"] @ h + params["out"]["bias"]

  return jnp.mean((jax.vmap(net)(INPUTS) - INPUTS**2) ** 2)


def trained(optimizer, factors, params=PARAMS, num_steps=5):
  """Parameters c y after steps of the optimizer in y."""
  scale = lambda y: jax.tree.map(jnp.multiply, factors, y)
  y = jax.tree.map(jnp.divide, params, factors)

  @jax.jit
  def step(y, state):
    grads = jax.grad(lambda y: loss(scale(y)))(y)
    updates, state = optimizer.update(grads, state, y)
    return optax.apply_updates(y, updates), state

  state = optimizer.init(y)
  for _ in range(num_steps):
    y, state = step(y, state)
  return scale(y)


def test_labels_are_the_first_patterns_that_match():
  found = layerwise.labels(PARAMS, FACTORS)
  assert found == {
    "hidden": {"kernel": "hidden/*", "bias": "hidden/*"},
    "out": {"kernel": "*", "bias": "*/bias"},
  }
  assert layerwise.labels(jax.eval_shape(lambda: PARAMS), FACTORS) == found


@pytest.mark.parametrize(
  "optimizer, power",
  [
    (optax.sgd(0.05), 2),
    (optax.sgd(0.05, momentum=0.9), 2),
    (optax.adam(0.05, eps=0.0), 1),
  ],
  ids=["sgd", "momentum", "adam"],
)
def test_a_reparametrisation_is_a_learning_rate(optimizer, power):
  factors = jax.tree.map(FACTORS.__getitem__, layerwise.labels(PARAMS, FACTORS))
  ones = jax.tree.map(lambda _: 1.0, factors)
  rates = layerwise.scale({k: c**power for k, c in FACTORS.items()})
  found = trained(optax.chain(optimizer, rates), ones)
  trees.assert_equal(found, trained(optimizer, factors))
  plain = trained(optimizer, ones)
  moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), found, plain)
  assert min(jax.tree.leaves(moved)) > 1e-3


def test_each_layer_by_its_own_optimizer():
  """Those of the layers alone, since their gradients are given."""
  rules = {"hidden/*": optax.adam(0.1), "out/bias": optax.set_to_zero()}
  rules |= {"*": optax.sgd(0.3)}
  optimizer = layerwise.partition(rules)
  grads = jax.grad(loss)(PARAMS)
  found, _ = jax.jit(optimizer.update)(grads, optimizer.init(PARAMS))
  for name, rule in (("hidden", optax.adam(0.1)), ("out", optax.sgd(0.3))):
    truth, _ = rule.update(grads[name], rule.init(PARAMS[name]))
    if name == "out":
      truth["bias"] = jnp.zeros(())
    trees.assert_close(found[name], truth, rtol=1e-6)


def test_patterns_that_do_not_fit():
  optimizer = layerwise.scale({"hidden/*": 2.0, "out/k*": 3.0})
  said = r"^patterns: expected one that matches out/bias, got hidden/\*, out/k"
  expect.error(said, optimizer.init, PARAMS)
  said = "^patterns: expected one that matches hidden/bias, got none$"
  expect.error(said, layerwise.labels, PARAMS, ())
  for patterns in (("hiden/*", "*"), ("*", "hiden/*")):
    said = r"parameters that hiden/\* is the first to match, got hidden/bias, "
    expect.error(said, layerwise.labels, PARAMS, patterns)
  said = r"^patterns: expected parameters that out/bias is the first to match"
  expect.error(said, layerwise.labels, PARAMS, ("*", "out/bias"))
  for number, end in ((9, "7, 8"), (10, "7, 8, ...")):
    many = dict.fromkeys(map(str, range(number)), 0.0)
    said = f" got 0, 1, 2, 3, 4, 5, 6, {end}$".replace("...", r"\.\.\.")
    expect.error(said, layerwise.labels, many, ("*", "out"))


def test_a_pattern_is_of_the_whole_path_and_case():
  params = {"Out": jnp.zeros(2), "out": np.zeros(2), "outer": jnp.zeros(1)}
  found = layerwise.labels(params, ("out", "*"))
  assert found == {"Out": "*", "out": "out", "outer": "*"}


def test_a_checkpoint_holds_the_states_of_all_layers(tmp_path):
  """Names of patterns are parts of the paths of a state's leaves."""
  rules = {"hidden/*": optax.adam(0.1), "*": optax.sgd(0.1, momentum=0.9)}
  optimizer = layerwise.partition(rules)
  turns = step.single(lambda params, key, batch: (loss(params), {}), optimizer)
  fresh = jax.tree.map(jnp.array, PARAMS)  # the step donates them
  now = state.init(jax.random.key(0), {"model": fresh}, turns)
  now, _ = step.make_train_step(turns)(now, {"model": jnp.zeros(1)})
  with checkpoint.saver(tmp_path, keep=1) as save:
    save(now)
  back = checkpoint.restore(tmp_path, now)
  trees.assert_equal(back.players, now.players)
  assert len(jax.tree.leaves(back.players["model"].opt_state)) == 7
