"""NADE against its recursion, written in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.models import nade
from tests.models import twins

NET = nade.NADE(3, 2, 4, width=5, num_classes=2)


def twin(variables, x, label):
  """Position by position, from the module's equations, in float64."""
  p = jax.tree.map(np.float64, variables["params"])
  a, rows = p["inner_bias"] + p["label"]["table"]["embedding"][label], []
  for i, token in enumerate(np.float64(x)):
    h = 1 / (1 + np.exp(-a))
    rows.append(p["outer"][i].T @ h + p["outer_bias"][i])
    a = a + p["inner"][i].T @ token
  return np.stack(rows)


def test_outputs_and_memory_are_the_recursions():
  x = jax.random.normal(jax.random.key(1), (3, 2))
  params = twins.randomise(jax.eval_shape(NET.init, jax.random.key(0), x))
  truth = twin(params, x, 1)
  found = jax.jit(lambda x: NET.apply(params, x, 1))(x)
  np.testing.assert_allclose(found, truth, atol=1e-5)
  memory = NET.apply(params, 1, method="start")
  step = jax.jit(lambda m, x, i: NET.apply(params, m, x, i, method="step"))
  for i in range(3):
    memory, out = step(memory, x[max(i - 1, 0)], jnp.array(i))
    assert memory.shape == (5,)
    np.testing.assert_allclose(out, truth[i], atol=1e-5)
