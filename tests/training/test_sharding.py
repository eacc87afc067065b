"""Placement on eight simulated devices: what is where, and the same numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.speed import steps
from jaxgen.training import checkpoint, ema, sharding, state, step
from tests import expect, trees

NUM = 8
pytestmark = pytest.mark.skipif(
  len(jax.devices()) < NUM, reason=f"needs {NUM} devices"
)


@pytest.fixture(scope="module")
def mesh():
  return sharding.mesh(jax.devices()[:NUM])


def test_a_mesh_is_of_all_devices_or_of_those_named():
  devices = jax.devices()
  with jax.default_device(None):
    everything = sharding.mesh()
  assert list(everything.devices) == devices
  assert everything.axis_names == ("data",)
  assert everything.axis_types == (jax.sharding.AxisType.Auto,)
  with jax.default_device(devices[3]):
    assert list(sharding.mesh().devices) == [devices[3]]
  with jax.default_device(jax.default_backend()):
    assert sharding.mesh().size == len(devices)
  assert list(sharding.mesh(devices[2:4]).devices) == devices[2:4]


@pytest.mark.parametrize(
  "least, shape, axis",
  [
    (512, (), None),
    (512, (512,), 0),
    (512, (504,), None),  # too small
    (512, (513,), None),  # does not divide
    (512, (3, 3, 64, 128), 3),
    (512, (128, 64), 0),
    (512, (64, 64), 0),  # the first of equals
    (512, (33, 24), 1),  # the longest does not divide
    (512, (9, 9, 9), None),
    (1, (), None),
    (1, (8,), 0),
    (8, (8,), 0),
    (9, (8,), None),
    (128, (16, 8), 0),
    (64, (8, 8), 0),
    (1, (3, 8), 1),
    (1, (16, 24), 1),
  ],
)
def test_the_longest_axis_that_divides_is_split(least, shape, axis):
  assert sharding.longest_axis(least)(shape, 8) == axis
  assert sharding.replicate(shape, 8) is None


@pytest.mark.parametrize("bad", [0, -1])
def test_a_size_below_one_is_refused(bad):
  said = f"min_size: .* at least 1, got {bad}"
  expect.error(said, sharding.longest_axis, bad)


def test_shardings_say_where_leaves_go(mesh):
  tree = {"w": jnp.ones((16, 64)), "b": jnp.ones(64), "k": jax.random.key(0)}
  places = sharding.shardings(tree, mesh, sharding.longest_axis())
  assert places["w"].spec == jax.sharding.PartitionSpec(None, "data")
  assert places["b"] == places["k"] == sharding.whole(mesh)
  placed = jax.device_put(tree, places)
  held = [placed["w"], placed["b"], jax.random.key_data(placed["k"])]
  held = sum(leaf.addressable_shards[5].data.nbytes for leaf in held)
  assert sharding.bytes_per_device(tree, places) == held
  assert held == 4 * (16 * 64 // NUM + 64) + 8
  one = sharding.shardings(tree, mesh, sharding.replicate)
  assert sharding.bytes_per_device(tree, one) == 4 * (16 * 64 + 64) + 8


def test_a_batch_that_the_mesh_does_not_divide_is_refused(mesh):
  message = "^batch_size: expected a multiple of the 8 devices, got 20$"
  expect.error(message, sharding.check_batch_size, 20, mesh)
  for number in (8, 24):
    sharding.check_batch_size(number, mesh)
  sharding.check_batch_size(20, sharding.mesh(jax.devices()[:1]))


def test_any_number_of_examples_is_spread(mesh):
  def row(params, key, label):
    draw = jax.random.normal(key, (2,)) * params["scale"][0, label]
    return {"draw": draw, "label": label}

  batched = lambda row: jax.vmap(row, in_axes=(None, 0, 0))
  fn = sharding.spread(batched(chex.assert_max_traces(row, n=2)), mesh)
  params = {"scale": jnp.arange(512.0).reshape(1, 512)}
  keys = jax.random.split(jax.random.key(0), 16)
  expected = jax.jit(batched(row))(params, keys, jnp.arange(16))
  places = sharding.shardings(params, mesh, sharding.longest_axis())
  params = jax.device_put(params, places)
  for num in (1, 13, 16):
    keys = jax.random.split(jax.random.key(0), 16)[:num]
    found = fn(params, keys, jnp.arange(num))
    few = jax.tree.map(lambda x, n=num: x[:n], expected)
    trees.assert_close(found, few, rtol=1e-6)
  assert found["draw"].sharding.is_equivalent_to(sharding.split(mesh), 2)


def test_nothing_is_spread_where_examples_have_nothing(mesh):
  fn = sharding.spread(lambda scale, x, none: scale * x, mesh)
  np.testing.assert_array_equal(fn(2.0, jnp.arange(3.0), None), [0.0, 2.0, 4.0])


def _game():
  """Two linear regressions w, v of 64 x 8; v's target is w, in two steps."""
  chex.clear_trace_counter()

  def w_loss(params, extras, key, batch, number):
    x, y = batch
    loss = jnp.mean((x @ params["w"] - y) ** 2)
    return loss, ({}, extras | {"sum": extras["sum"] + x.sum(0)})

  def v_loss(params, extras, key, batch, number):
    target = batch @ params["w"]
    loss = jnp.mean((batch @ params["v"] - target) ** 2)
    return loss, ({}, extras | {"last": batch[:, 0]})  # comes out split

  optimizer = optax.chain(
    optax.clip_by_global_norm(0.5), optax.trace(0.9), optax.sgd(0.3)
  )
  w_loss, v_loss = (chex.assert_max_traces(f, n=1) for f in (w_loss, v_loss))
  twice = dict(num_steps=2, averages={"half": ema.constant(0.5)})
  return (
    step.Turn("w", w_loss, optimizer),
    step.Turn("v", v_loss, optimizer, **twice),
  )


def _start(turns, seed=0):
  rng = np.random.default_rng(seed)
  params = {k: jnp.asarray(rng.normal(size=(64, 8)), "f") for k in "wv"}
  extras = {"sum": jnp.zeros(64), "last": jnp.zeros(16)}
  return state.init(jax.random.key(seed), params, turns, extras)


def _batches(number):
  rng = np.random.default_rng(number)
  x, y = rng.normal(size=(16, 64)), rng.normal(size=(16, 8))
  many = rng.normal(size=(2, 16, 64))
  return {"w": (x.astype("f"), y.astype("f")), "v": many.astype("f")}


def _lies_at(tree, places):
  """Whether each leaf lies where it should."""
  same = lambda x, place: x.sharding.is_equivalent_to(place, x.ndim)
  return all(jax.tree.leaves(jax.tree.map(same, tree, places)))


def _by_hand(num_steps):
  """The game in NumPy: (w, v, average of v), gradients by hand."""
  begin = _start(_game()).players
  w, v = (np.asarray(begin[k].params, np.float64) for k in "wv")
  mean, traces = v, {"w": 0.0, "v": 0.0}

  def updated(name, value, x, target):
    grad = 2 * x.T @ (x @ value - target) / target.size
    grad = grad * min(1, 0.5 / np.linalg.norm(grad))
    traces[name] = grad + 0.9 * traces[name]
    return value - 0.3 * traces[name]

  for number in range(num_steps):
    batches = _batches(number)
    w = updated("w", w, *batches["w"])
    for x in batches["v"]:
      v = updated("v", v, x, x @ w)
      mean = (mean + v) / 2
  return w, v, mean


@pytest.mark.parametrize("rule", [sharding.replicate, sharding.longest_axis()])
def test_a_game_on_eight_devices_is_the_game_by_hand(mesh, rule):
  turns = _game()
  now = _start(turns)
  places = sharding.shardings(now, mesh, rule)
  now = jax.device_put(now, places)
  train_step = step.make_train_step(turns, places)
  put = lambda b: {
    "w": jax.device_put(b["w"], sharding.split(mesh)),
    "v": jax.device_put(b["v"], sharding.split(mesh, axis=1)),
  }
  for number in range(4):
    before = now
    now, metrics = train_step(now, put(_batches(number)))
    assert _lies_at(now, places)  # so the second call compiles nothing
    assert before.players["w"].params.is_deleted()  # donated
    assert before.players["v"].ema["half"].is_deleted()
  found = (*(now.players[k].params for k in "wv"), now.players["v"].ema["half"])
  expect.close(found, _by_hand(4), rtol=1e-5, atol=1e-6)
  sums = sum(_batches(n)["w"][0].sum(0) for n in range(4))
  np.testing.assert_allclose(now.extras["sum"], sums, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(now.extras["last"], _batches(3)["v"][1, :, 0])
  assert metrics["v/loss"].sharding.is_fully_replicated


def test_a_split_step_gathers_parameters_and_sums_gradients(mesh):
  now = _start(_game()[:1])
  batch = {"w": jax.device_put(_batches(0)["w"], sharding.split(mesh))}
  seen = {}
  for name, rule in (
    ("replicated", sharding.replicate),
    ("full", sharding.longest_axis()),
  ):
    places = sharding.shardings(now, mesh, rule)
    placed = jax.device_put(now, places, may_alias=False)
    program = step.make_train_step(_game()[:1], places)
    text = program.lower(placed, batch).compile().as_text()
    seen[name] = steps.collectives(text)
  assert seen == {
    "replicated": {"all-reduce": 1},
    "full": {"all-gather": 1, "all-reduce": 1},
  }


def test_checkpoints_move_between_devices_and_rules(mesh, tmp_path):
  begin = _start(_game())
  one = sharding.mesh(jax.devices()[:1])
  # One device, eight with copies, eight with parts, one again.
  route = [
    (one, sharding.replicate),
    (mesh, sharding.replicate),
    (mesh, sharding.longest_axis()),
    (one, sharding.longest_axis()),
  ]
  host = lambda tree: jax.tree.map(
    np.asarray, tree._replace(key=jax.random.key_data(tree.key))
  )
  expected, now = host(begin), begin
  for number, (target, rule) in enumerate(route):
    places = sharding.shardings(begin, target, rule)
    like = jax.device_put(_start(_game(), seed=1), places)
    with checkpoint.saver(tmp_path / str(number), keep=1) as save:
      save(now)
    now = checkpoint.restore(tmp_path / str(number), like)
    trees.assert_equal(host(now), expected)
    assert _lies_at(now, places)
