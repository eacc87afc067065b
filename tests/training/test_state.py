"""What a run starts from."""

import jax
import jax.numpy as jnp
import optax

from jaxgen.training import ema, state, step
from tests import expect, trees

RULES = {"fast": ema.constant(0.9), "slow": ema.constant(0.99)}


def _turns(optimizer=None):
  loss_fn = lambda params, key, batch: (jnp.sum(params["w"] ** 2), {})
  return step.single(loss_fn, optimizer or optax.adam(1e-2), RULES)


def test_a_state_owns_its_buffers():
  """Also those that an optimizer shares: schedule-free keeps z = params."""
  optimizer = optax.contrib.schedule_free_sgd(1e-2)
  params = {"w": jnp.ones(3)}
  key = jax.random.key(0)
  start = state.init(key, {"model": params}, _turns(optimizer))
  leaves = [x for x in jax.tree.leaves(start) if x is not start.key]
  pointers = [x.unsafe_buffer_pointer() for x in leaves]
  assert len(set(pointers)) == len(pointers)
  train_step = step.make_train_step(_turns(optimizer))
  train_step(start, {"model": jnp.zeros(())})
  assert start.players["model"].params["w"].is_deleted()
  assert float(params["w"].sum()) == 3 and jax.random.key_data(key).sum() == 0


def test_the_average_starts_as_the_parameters_and_the_rest_as_given():
  params = {"model": {"w": jnp.arange(3.0)}, "frozen": {"v": jnp.ones(2)}}
  start = state.init(
    jax.random.key(3), params, _turns(), {"mean": jnp.zeros(2)}
  )
  assert int(start.step) == 0 and start.step.dtype == jnp.int32
  model = start.players["model"]
  for mean in model.ema.values():
    trees.assert_equal(mean, params["model"], model.params)
  assert model.ema.keys() == RULES.keys()
  trees.assert_equal(model.opt_state, optax.adam(1e-2).init(params["model"]))
  assert start.players["frozen"].ema == {}
  trees.assert_equal(start.extras, {"mean": jnp.zeros(2)})
  assert start.key == jax.random.key(3)


def test_no_rule_no_average():
  turns = step.single(lambda *_: (0.0, {}), optax.sgd(1.0))
  start = state.init(jax.random.key(0), {"model": {"w": jnp.ones(2)}}, turns)
  assert start.players["model"].ema == {}


def test_bad_arguments():
  w = {"w": jnp.ones(3)}
  for key, params, said in (
    (jnp.zeros(2, jnp.uint32), {"model": w}, "key: expected a typed.*uint32"),
    (0, {"model": w}, "key: expected a typed key.*got int"),
    (jax.random.split(jax.random.key(0)), {"model": w}, "one key, got shape"),
    (jax.random.key(0), {"net": w}, r"params: .*missing \['model'\]"),
  ):
    expect.error(said, state.init, key, params, _turns())
