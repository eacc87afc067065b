"""The recurrent networks against their cells' equations in NumPy."""

import jax
import numpy as np
import pytest

from jaxgen.models import recurrent
from tests.models import twins


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def gru(p, carry, x):
  """Cho et al. 2014, with the reset gate behind the candidate's product."""
  part = lambda name: x @ p[f"i{name}"]["kernel"] + p[f"i{name}"]["bias"]
  r = sigmoid(part("r") + carry @ p["hr"]["kernel"])
  z = sigmoid(part("z") + carry @ p["hz"]["kernel"])
  inner = carry @ p["hn"]["kernel"] + p["hn"]["bias"]
  h = (1 - z) * np.tanh(part("n") + r * inner) + z * carry
  return h, h


def lstm(p, carry, x):
  c, h = carry
  part = lambda name: (
    x @ p[f"i{name}"]["kernel"]
    + h @ p[f"h{name}"]["kernel"]
    + p[f"h{name}"]["bias"]
  )
  i, f, o = (sigmoid(part(name)) for name in "ifo")
  c = f * c + i * np.tanh(part("g"))
  h = o * np.tanh(c)
  return (c, h), h


@pytest.mark.parametrize("cell", [gru, lstm])
def test_outputs_are_the_recursions(cell):
  net = recurrent.Recurrent(4, 3, cell.__name__, width=5, depth=2)
  x = jax.random.normal(jax.random.key(1), (4, 2))
  params = twins.randomise(jax.eval_shape(net.init, jax.random.key(0), x))
  found = jax.jit(lambda x: net.apply(params, x))(x)
  p = jax.tree.map(np.float64, params["params"])
  inputs = p["inputs"]
  dense = lambda p, x: x @ p["kernel"] + p["bias"]
  h = inputs["positions"].copy()
  h[1:] += dense(inputs["project"], np.float64(x[:-1]))
  for layer in range(2):
    carry, rows = np.zeros(5) if cell is gru else (np.zeros(5),) * 2, []
    for row in h:
      carry, out = cell(p[f"cells_{layer}"], carry, row)
      rows.append(out)
    h = np.stack(rows)
  np.testing.assert_allclose(found, dense(p["out"], h), atol=1e-5)
