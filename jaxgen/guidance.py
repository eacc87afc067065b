"""Guidance: two fields as one, Field -> Field.

  guided = null + w (conditional - null)

for every estimate. The estimates of a Gaussian path are affine functions of one
another, and the weights w and 1 - w sum to one, so velocity, score, data and
noise of the guided field agree with one another.

The guided field is not that of the tilted density p(x | c)^w p(x)^(1 - w): at
t > 0 the score of a tilted and then noised density is another one. For w other
than 0 and 1 there is in general no density whose noised versions have these
scores, so the field has no log_prob.
"""

import math
import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen import fields

_AFFINE = ("velocity", "score", "data", "noise")


def classifier_free(
  field: fields.Field,
  null_field: fields.Field,
  weight: ArrayLike,
  interval: tuple[float, float] | None = None,
) -> fields.Field:
  """Classifier-free guidance, also within an interval of noise ratios.

  With the null field of the same network it is classifier-free guidance, with
  that of a weaker network for the same label it is autoguidance.

  Args:
    field: the conditional field.
    null_field: the field without a label, or a weaker one, on the same path;
      fields.on_path moves it there.
    weight: w, []; 1 is the conditional field and 0 the null field, each by one
      network call if w is a Python number.
    interval: (low, high), the noise ratios sigma / alpha with low < ratio <=
      high that are guided. Outside of them the field is the conditional one, by
      one call: a lax.cond, which vmap keeps if it does not batch the times.
      None guides everywhere.

  Returns:
    The guided field, on the path of `field`. Estimates that one of the two
    cannot give are None.

  Raises:
    ValueError: the interval is not 0 <= low < high, or there is an interval and
      the field has no path.

  Reference: Ho and Salimans 2022, arXiv:2207.12598, eq. 6 (there w is our
  w - 1); Kynkaanniemi et al. 2024, arXiv:2404.07724 (interval); Karras et al.
  2024, arXiv:2406.02507 (autoguidance).
  """
  if interval is not None:
    _check(field, interval)
  number = float(weight) if isinstance(weight, numbers.Real) else math.nan
  if number == 1.0:
    return field

  def guided(x, t):
    null = null_field(x, t)
    if number == 0.0:
      return null
    return _combine(field(x, t), null, weight)

  if interval is None:
    return fields.Field(guided, field.path)
  return fields.Field(_within(field, guided, interval), field.path)


def _combine(at, null, weight):
  """The estimates null + w (at - null)."""

  def affine(one, other):
    if one is None or other is None:
      return None
    return other + jnp.asarray(weight, one.dtype) * (one - other)

  pairs = {n: (getattr(at, n), getattr(null, n)) for n in _AFFINE}
  return fields.Estimate(**{n: affine(*pair) for n, pair in pairs.items()})


def _within(field, guided, interval) -> Callable:
  """(x, t) -> guided(x, t) inside the interval, field(x, t) outside."""
  low, high = interval

  def estimate(x, t):
    ratio = field.path.ratio(t)
    shapes = [jax.eval_shape(fn, x, t) for fn in (guided, field)]
    names = [n for n in _AFFINE if None not in [getattr(s, n) for s in shapes]]
    given = lambda fn: lambda: {n: getattr(fn(x, t), n) for n in names}
    inside = (ratio > low) & (ratio <= high)
    found = jax.lax.cond(inside, given(guided), given(field))
    return fields.Estimate(**found)

  return estimate


def _check(field, interval):
  low, high = interval
  if not 0 <= low < high:
    raise ValueError(f"interval: expected 0 <= low < high, got {low}, {high}")
  if field.path is None:
    raise ValueError("interval: expected a field with a path, got None")
