"""traces: the limits on the number of probes, at both of their sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import traces


@pytest.mark.parametrize("shape", [(5,), (6,), (7,), (2, 4), (3, 3), (11,)])
def test_hutchpp_takes_fewer_probes_than_half_the_size(shape):
  """Every k with 2 <= k < D / 2 is valid, and no other."""
  size, x = int(np.prod(shape)), jnp.zeros(shape)
  for k in range(2, size + 2):
    trace = traces.hutchpp(k)
    if k < size / 2:
      draw = lambda key: trace.estimate(jnp.sin, x, trace.draw(key, x))
      value, found = jax.eval_shape(draw, jax.random.key(0))
      assert value.shape == shape and found.shape == (k,)
      assert (trace.num_estimates, trace.num_products(size)) == (k, 3 * k)
    else:
      with pytest.raises(
        ValueError, match=f"hutchpp: expected num_probes below {size} /.*{k}"
      ):
        trace.draw(jax.random.key(0), x)


def test_the_least_number_of_probes():
  assert traces.hutchinson(1).num_estimates == 1
  assert traces.hutchpp(2).num_estimates == 2
  assert traces.exact().num_estimates == 1
  for make, number in ((traces.hutchinson, 0), (traces.hutchpp, 1)):
    with pytest.raises(ValueError, match=f"at least {number + 1}"):
      make(number)
