"""Token fields: what a token solver may ask of a model of levels.

  (x, t) -> log P(x_i = level | x), for every entry i and level, [*D, L]

x [*D] holds tokens: levels 0, ..., L - 1 and the mask token L. For visible
entries the values are not used. t is the probability with which an entry is
masked at this time; most networks do without it. A TokenField takes the place
of a Field in `samplers.integrate`, with the solvers of samplers.unmasking.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jaxgen import outputs


@dataclasses.dataclass(frozen=True)
class TokenField:
  """A function (x [*D], t []) -> log probabilities [*D, L].

  Attributes:
    log_probs: the function.
    num_levels: L, which is also the mask token.
    path: None; token solvers use no path.
  """

  log_probs: Callable[[Array, ArrayLike], Array]
  num_levels: int
  path: None = None

  def __call__(self, x: Int[Array, "*D"], t: ArrayLike) -> Float[Array, "*D L"]:
    found = self.log_probs(x, t)
    if found.shape != (*x.shape, self.num_levels):
      raise ValueError(
        f"field: expected log probabilities of shape"
        f" {(*x.shape, self.num_levels)}, got {found.shape}"
      )
    return found


def from_params(
  params_fn: Callable[[Array], Array], output: outputs.Output
) -> TokenField:
  """The field of a network that needs no time.

  Args:
    params_fn: tokens [*D] -> parameters [*D, K], parameters bound.
    output: the distribution of one entry.
  """
  return TokenField(
    lambda x, t: outputs.table(output, params_fn(x)), output.num_levels
  )


def guided(
  field: TokenField, null_field: TokenField, weight: ArrayLike
) -> TokenField:
  """Classifier-free guidance: log P is null + w (conditional - null) + const.

  Each entry's distribution is the normalised product P^w P_null^(1 - w). Where
  P is 0 it stays 0 for w > 0; where P_null is 0 it is 0 for w < 1, and for
  w > 1, which would make the product infinite, P_null counts as 1.

  Args:
    field: the conditional field.
    null_field: the field without a label.
    weight: w, []; 1 is the conditional field, 0 the null field.

  Raises:
    ValueError: the fields have different numbers of levels.

  Reference: Ho and Salimans 2022, arXiv:2207.12598; Nisonoff et al. 2024,
  arXiv:2406.01572 (discrete states).
  """
  if field.num_levels != null_field.num_levels:
    raise ValueError(
      f"null_field: expected {field.num_levels} levels, got"
      f" {null_field.num_levels}"
    )

  def log_probs(x, t):
    one, null = field(x, t), null_field(x, t)
    w = jnp.asarray(weight, one.dtype)
    never = (w != 0) & (one == -jnp.inf) | (w < 1) & (null == -jnp.inf)
    safe = lambda value: jnp.where(value == -jnp.inf, 0, value)
    mixed = safe(null) + w * (safe(one) - safe(null))
    return jax.nn.log_softmax(jnp.where(never, -jnp.inf, mixed))

  return TokenField(log_probs, field.num_levels)
