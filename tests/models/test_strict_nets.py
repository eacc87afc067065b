"""Networks mix no dtypes, in half precision: traced under strict promotion.

Those without attention and LayerNorm, whose code in JAX and Flax does.
"""

import jax
import jax.numpy as jnp
import pytest

from jaxgen.models import coupling_flow, masked_mlp, mlp, unet
from tests.models import sequences

SHAPE = (8, 8, 1)
LABELS = dict(num_classes=2, dropout=0.1)
# A network and the shape of its example, t being a second input of some.
OF_TIME = {
  "mlp": (mlp.MLP((6,), **LABELS), (5,)),
  "unet": (unet.UNet(width=8, **LABELS), SHAPE),
}
CASES = OF_TIME | {
  "coupling": (coupling_flow.CouplingFlow(SHAPE, width=8, **LABELS), SHAPE),
  "masked mlp": (masked_mlp.MaskedMLP(3, (6,), **LABELS), (16, 2)),
}
for name in ("made", "pixelcnn", "gru", "lstm"):
  case = sequences.cases()[name]
  shape = (*case.shape, sequences.LEVELS)
  CASES[name] = (case.net.clone(dropout=0.1), shape)


@pytest.mark.parametrize("name", CASES)
def test_in_half_precision(name):
  net, shape = CASES[name]
  net, x = net.clone(dtype="bfloat16"), jnp.ones(shape)
  more = (jnp.float32(0.5),) if name in OF_TIME else ()

  def run(key):
    rngs = dict(params=key, dropout=jax.random.fold_in(key, 1))
    options = dict(label=jnp.int32(1), train=True)
    return net.init_with_output(rngs, x, *more, **options)

  with jax.numpy_dtype_promotion("strict"):
    found = jax.eval_shape(run, jax.random.key(0))
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(found)}
  assert dtypes == {jnp.dtype("float32")}
