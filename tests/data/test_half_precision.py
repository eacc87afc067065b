"""Exact fields of half precision are those of float32, rounded.

t itself is never rounded: near 1, bfloat16 has steps of 1/128.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import paths
from jaxgen.data import interpolants, oracles
from jaxgen.losses import flow_matching
from tests import trees
from tests.data import test_interpolants

PATH, T = paths.linear(), 0.9876
LAW = test_interpolants.LAW._replace(stds=np.array([0.4, 0.6]))
ONE = oracles.Mixture(np.ones(1), np.array([[0.4, 1.0]]), np.ones(1))
BETWEEN = interpolants.between(LAW, ONE, PATH, flow_matching.brownian(0.8))
FUNCTIONS = {
  "estimate": lambda x: LAW.estimate(PATH, x, T),
  "denoise": lambda x: LAW.denoise(PATH, x, T),
  "score": lambda x: LAW.score(PATH, x, T),
  "velocity": lambda x: LAW.velocity(PATH, x, T),
  "log_prob": lambda x: LAW.log_prob(PATH, x, T),
  "flow_map": lambda x: ONE.flow_map(PATH, x, T, 0.0123),
  "between": lambda x: BETWEEN(x, T),
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_that_of_float32_rounded(name, dtype):
  fn, x = jax.jit(FUNCTIONS[name]), jnp.asarray([0.3, -0.7], dtype)
  found, wide = (jax.tree.leaves(fn(y)) for y in (x, x.astype("float32")))
  assert all(value.dtype == dtype for value in found)
  trees.assert_equal(found, [truth.astype(dtype) for truth in wide])
