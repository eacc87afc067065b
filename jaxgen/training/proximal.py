"""Penalties by a proximal step after the optimizer's, not by their gradient."""

import jax
import jax.numpy as jnp
import optax


def l1(
  penalty: float, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
  """The proximal step of penalty |x|_1: parameters become exactly zero.

    x <- S(x + update, rate(i) penalty),   S(v, c) = sign(v) max(|v| - c, 0)

  It is the last part of a chain, after all that scales the update:

    optax.chain(optax.sgd(rate), proximal.l1(penalty, rate))

  With gradient descent this is ISTA, which converges to a minimum of
  loss + penalty |x|_1. With Adam, as with AdamW's decay, the penalty is not
  divided by the gradient's size, so the limit is another one. For some layers
  alone, use it in `layerwise.partition`, with optax.identity() for the others.

  Args:
    penalty: factor of the norm, at least 0.
    learning_rate: that of the optimizer: a number, or a function of the number
      of updates, such as optax.cosine_decay_schedule(...).

  Returns:
    The transformation. Its update raises ValueError without parameters.

  Raises:
    ValueError: the penalty is negative.

  Reference: Daubechies et al. 2004, Communications on Pure and Applied
  Mathematics 57(11); Beck and Teboulle 2009, SIAM Journal on Imaging Sciences
  2(1), eq. 1.4.
  """
  if not penalty >= 0:
    raise ValueError(f"penalty: expected at least 0, got {penalty}")

  def init(params):
    del params
    return optax.ScaleByScheduleState(jnp.zeros((), "int32"))

  def update(updates, state, params=None):
    if params is None:
      raise ValueError("params: expected the parameters, got None")
    rate = learning_rate
    if callable(rate):
      rate = rate(state.count)

    def step(update, x):
      moved = x + update
      size = jnp.abs(moved)
      threshold = jnp.asarray(rate * penalty).astype(size.dtype)
      return jnp.sign(moved) * jnp.maximum(size - threshold, 0) - x

    found = jax.tree.map(step, updates, params)
    count = optax.safe_increment(state.count)
    return found, optax.ScaleByScheduleState(count)

  return optax.GradientTransformation(init, update)
