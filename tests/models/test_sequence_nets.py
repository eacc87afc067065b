"""What all autoregressive networks owe: causality, normalisation, a cache."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import orders, outputs, samplers
from jaxgen.losses import autoregressive
from tests import expect
from tests.models import sequences

CASES = sequences.cases()
LENGTH, LEVELS = sequences.LENGTH, sequences.LEVELS
OUTPUT = outputs.categorical(LEVELS)
STEPPED = [name for name, case in CASES.items() if case.has_step]


@pytest.fixture(scope="module", params=CASES)
def started(request):
  """(the case, its parameters, (x, label) -> outputs)."""
  case = CASES[request.param]
  params = sequences.started(case)
  run = jax.jit(lambda x, label: sequences.apply(case, params, x, label))
  return case, params, run


def test_an_output_sees_all_that_comes_before_and_nothing_else(started):
  run = started[2]
  fn = lambda x: run(x, 1)
  key = jax.random.key(0)
  field = jax.jit(
    lambda: orders.receptive_field(key, fn, (LENGTH, LEVELS)).any((1, 3))
  )()
  np.testing.assert_array_equal(field, np.tri(LENGTH, k=-1, dtype=bool))


def test_the_probabilities_of_all_sequences_sum_to_one(started):
  run = started[2]
  every = itertools.product(range(LEVELS), repeat=LENGTH)

  @jax.jit
  @jax.vmap
  def log_prob(levels):
    params_fn = lambda levels: run(sequences.one_hot(levels), 1)
    return autoregressive.log_prob(params_fn, levels, output=OUTPUT)

  probabilities = np.exp(log_prob(jnp.array(list(every))), dtype="float64")
  assert len(probabilities) == LEVELS**LENGTH
  assert probabilities.std() > 1e-3
  np.testing.assert_allclose(probabilities.sum(), 1, atol=1e-5)


@pytest.mark.parametrize("name", STEPPED)
def test_steps_give_the_outputs_and_samples_of_the_network(name):
  case = CASES[name]
  params = sequences.started(case)
  one_hot = sequences.one_hot

  def step(memory, before, i):
    # Nothing precedes position 0: a token there must have no effect.
    token = one_hot(before) + 7.0 * (i == 0)
    return case.net.apply(params, memory, token, i, method="step")

  def run(key, label):
    start = case.net.apply(params, label, method="start")
    params_fn = lambda x: sequences.apply(case, params, one_hot(x), label)
    levels = samplers.autoregressive(step, start, OUTPUT, LENGTH, key)
    again = samplers.autoregressive_by_forwards(
      params_fn, OUTPUT, (LENGTH,), key
    )
    places = jnp.arange(LENGTH), jnp.roll(levels, 1)
    one = lambda memory, at: step(memory, at[1], at[0])
    forced = jax.lax.scan(one, start, places)[1]
    return levels, again, forced, params_fn(levels)

  keys = jax.random.split(jax.random.key(1), 16)
  labels = jnp.arange(16) % 3
  levels, again, forced, whole = jax.jit(jax.vmap(run))(keys, labels)
  assert len(np.unique(levels, axis=0)) > 4
  np.testing.assert_array_equal(levels, again)
  np.testing.assert_allclose(forced, whole, atol=1e-5)
  assert np.abs(whole).max() > 0.1


def test_vmap_is_a_loop_in_one_trace(started):
  case, params, _ = started
  x = jax.random.normal(jax.random.key(1), (3, LENGTH, LEVELS))
  fn = lambda x, label: sequences.apply(case, params, x, label)
  expect.a_loop(fn, x, jnp.array([0, 2, 1]), rtol=1e-6, atol=1e-5)


def test_labels_reach_the_first_output_and_null_is_the_last(started):
  case, params, run = started
  x = jax.random.normal(jax.random.key(1), (LENGTH, LEVELS))
  rows = [run(x, label) for label in range(3)]
  for one, other in itertools.combinations(rows, 2):
    assert jnp.abs(one - other)[0].max() > 1e-3
  null = jax.jit(lambda x: sequences.apply(case, params, x))(x)
  np.testing.assert_allclose(null, rows[2], atol=1e-6)


def test_starts_uniform(started):
  case, _, _ = started
  x = jax.random.normal(jax.random.key(1), (*case.shape, LEVELS))
  start = jax.jit(case.net.init_with_output)
  out, params = start(jax.random.key(0), x, 1)
  assert out.shape == (*case.shape, LEVELS) and out.dtype == jnp.float32
  assert (out == 0).all()
  assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_a_derivative_in_forward_mode_is_the_difference(started):
  case, params, _ = started
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda a: a.astype("float64"), params)
    net = case.net
    if hasattr(net, "dtype"):
      net = net.clone(dtype="float64")
    case = case._replace(net=net)
    x, v = jax.random.normal(jax.random.key(1), (2, LENGTH, LEVELS))
    fn = jax.jit(lambda x: sequences.apply(case, wide, x, 1))
    slope = jax.jit(lambda x, v: jax.jvp(fn, (x,), (v,))[1])(x, v)
    assert slope.dtype == jnp.float64
    # Attention's softmax is in float32, whose rounding a step of 1e-5 shows.
    h, atol = (1e-2, 1e-4) if hasattr(net, "num_heads") else (1e-5, 1e-7)
    truth = (fn(x + h * v) - fn(x - h * v)) / (2 * h)
    np.testing.assert_allclose(slope, truth, atol=atol)
    assert np.abs(truth).max() > 1e-2


def test_dropout_masks_differ_by_key(started):
  case, params, run = started
  if case is CASES["fvsbn"]:
    return  # it has no hidden units
  case = case._replace(net=case.net.clone(dropout=0.5))
  x = jax.random.normal(jax.random.key(1), (LENGTH, LEVELS))

  def drop(key):
    rngs = {"dropout": key}
    return sequences.apply(case, params, x, 1, train=True, rngs=rngs)

  rows = jax.jit(jax.vmap(drop))(jax.random.split(jax.random.key(2), 3))
  for one, other in itertools.combinations((*rows, run(x, 1)), 2):
    assert jnp.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("name", ["made", "pixelcnn", "gru", "transformer"])
def test_bfloat16_is_near_float32(name):
  case = CASES[name]
  params = sequences.started(case)
  x = jax.random.normal(jax.random.key(1), (LENGTH, LEVELS))
  half = case._replace(net=case.net.clone(dtype=jnp.bfloat16))
  found, truth = (
    jax.jit(lambda x, case=c: sequences.apply(case, params, x, 1))(x)
    for c in (half, case)
  )
  assert found.dtype == jnp.float32
  error = jnp.abs(found - truth)
  assert error.max() > 0 and error.mean() < 0.05 * jnp.abs(truth).mean()


BAD = [
  ("nade", dict(width=0), "width: expected at least 1, got 0"),
  ("nade", dict(length=0), "length: expected"),
  ("nade", dict(in_features=2), r"x: expected shape \(4, 2\)"),
  ("nade", dict(dropout=1.0), "dropout: expected"),
  ("made", dict(features=(0,)), "out_features, features: expected"),
  ("made", dict(out_features=0), "out_features, features: expected"),
  ("made", dict(dropout=-0.1), "dropout: expected"),
  ("pixelcnn", dict(kernel=2), "kernel: expected an odd number, got 2"),
  ("pixelcnn", dict(first_kernel=0), "first_kernel: expected an odd"),
  ("pixelcnn", dict(depth=0), "depth: expected"),
  ("pixelcnn", dict(num_classes=-1), "num_classes: expected"),
  ("gru", dict(cell="rnn"), "cell: expected gru or lstm, got 'rnn'"),
  ("gru", dict(length=3), "tokens: expected 1 to 3 tokens, got 4"),
  ("gru", dict(width=0), "width: expected"),
  ("lstm", dict(dropout=2.0), "dropout: expected"),
  ("transformer", dict(num_heads=3), "width, num_heads: .*width 4, got 3"),
  ("transformer", dict(length=3), "tokens: expected 1 to 3 tokens, got 4"),
  ("transformer", dict(depth=0), "depth: expected at least 1, got 0"),
  ("transformer", dict(dropout=1.0), "dropout: expected"),
]


@pytest.mark.parametrize("name, settings, message", BAD)
def test_bad_settings(name, settings, message):
  case = CASES[name]
  net, x = case.net.clone(**settings), jnp.zeros((*case.shape, LEVELS))
  start = lambda: jax.eval_shape(net.init, jax.random.key(0), x)
  expect.error(f"^{message}", start)


@pytest.mark.parametrize("name", CASES)
def test_bad_labels(name):
  case = CASES[name]
  x = jnp.zeros((*case.shape, LEVELS))
  for num_classes, label, message in (
    (0, 0, "label: expected None"),
    (2, 3, "label: expected 0 to 2, got 3"),
  ):
    net = case.net.clone(num_classes=num_classes)
    start = lambda x, net=net, label=label: net.init(
      jax.random.key(0), x, label
    )
    expect.error(f"^{message}", jax.eval_shape, start, x)
