"""Losses of classes that concentrate on examples that are not yet right.

All of them are functions of the log-odds z of the true class, p = sigmoid(z):

  cross-entropy     -log p                        softplus(-z)
  focal             -(1 - p)^gamma log p          sigmoid(-z)^gamma softplus(-z)
  hard truncation   -log p where p <= margin      softplus(-z) or 0
  soft truncation   the step as a sigmoid         sigmoid(-K z) softplus(-z)

`log_odds` computes z for any number of classes. For two classes with one logit,
z is the logit if the class is 1 and its negative if it is 0. Each loss applies
to every coordinate: a sequence of L tokens has L values, whose mean or sum the
caller takes. For z of either sign and any size they lose no digits.

`smooth_accuracy` and `smooth_f1` are functions of a set of N examples. They are
the metrics themselves where all probabilities are 0 or 1, and differentiable
between: maximise them, or their logarithms.

Reference: Lin et al. 2017, arXiv:1708.02002; Su 2017, "From hard truncation and
softening of the loss to focal loss", https://kexue.fm/archives/4733.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def log_odds(
  logits: Float[Array, "*D K"], labels: Int[Array, "*D"]
) -> Float[Array, "*D"]:
  """The log-odds of the true class.

    z = log(p_y / (1 - p_y)) = logit_y - log sum_{k != y} exp(logit_k)

  Args:
    logits: unnormalised log-probabilities of K >= 2 classes, [*D, K].
    labels: the true classes y, from 0 to K - 1, [*D].

  Returns:
    z, [*D]; NaN for traced labels that are out of range.

  Raises:
    ValueError: there are fewer than two classes, or concrete labels are out of
      range.
  """
  number = logits.shape[-1]
  if number < 2:
    raise ValueError(f"logits: expected at least two classes, got {number}")
  if not isinstance(labels, jax.core.Tracer):
    found = np.asarray(labels)
    wrong = found[(found < 0) | (found >= number)]
    if wrong.size:
      raise ValueError(
        f"labels: expected 0 to {number - 1}, got {wrong.flat[0]}"
      )
  own = jax.nn.one_hot(labels, number, dtype=bool)
  true = jnp.sum(jnp.where(own, logits, 0), axis=-1)
  rest = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
  return jnp.where(jnp.any(own, axis=-1), true - rest, jnp.nan)


def focal(
  z: Float[Array, "*D"], gamma: float | Float[Array, ""]
) -> Float[Array, "*D"]:
  """The focal loss, which weighs examples by the probability of an error.

    -(1 - p)^gamma log p,   p = sigmoid(z)

  Args:
    z: log-odds of the true class, [*D].
    gamma: at least 0; 0 is cross-entropy, 1 is `soft_truncated` of slope 1.

  Returns:
    The loss in nats, [*D].

  Raises:
    ValueError: gamma is negative.

  Reference: Lin et al. 2017, arXiv:1708.02002, eq. 4.
  """
  if not isinstance(gamma, jax.core.Tracer) and not gamma >= 0:
    raise ValueError(f"gamma: expected at least 0, got {gamma}")
  return jnp.exp(gamma * jax.nn.log_sigmoid(-z)) * jax.nn.softplus(-z)


def hard_truncated(z: Float[Array, "*D"], margin: float) -> Float[Array, "*D"]:
  """Cross-entropy of the examples that are not yet right by a margin.

    -log p   where p <= margin,   otherwise 0

  A margin of 1/2 leaves the examples that are wrong; an example at the margin
  itself counts, so that training may start from p = 1/2.

  Args:
    z: log-odds of the true class, [*D].
    margin: probability from which an example no longer counts, above 0 and at
      most 1; 1 is cross-entropy.

  Returns:
    The loss in nats, [*D].

  Raises:
    ValueError: the margin is out of range.

  Reference: Su 2017, https://kexue.fm/archives/4733 (lambda(y, p)).
  """
  if not 0 < margin <= 1:
    raise ValueError(f"margin: expected above 0, at most 1, got {margin}")
  bound = math.log(margin) - math.log1p(-margin) if margin < 1 else math.inf
  return jnp.where(z <= bound, jax.nn.softplus(-z), 0)


def soft_truncated(
  z: Float[Array, "*D"], slope: float | Float[Array, ""]
) -> Float[Array, "*D"]:
  """Cross-entropy with a smooth truncation at p = 1/2.

    -sigmoid(-K z) log sigmoid(z)

  Slope 1 is the focal loss of gamma 1, since 1 - p = sigmoid(-z). The limit of
  large slopes is `hard_truncated` with a margin of 1/2.

  Args:
    z: log-odds of the true class, [*D].
    slope: K, positive.

  Returns:
    The loss in nats, [*D].

  Raises:
    ValueError: the slope is not positive.

  Reference: Su 2017, https://kexue.fm/archives/4733 (the soft loss).
  """
  if not isinstance(slope, jax.core.Tracer) and not slope > 0:
    raise ValueError(f"slope: expected a positive number, got {slope}")
  return jax.nn.sigmoid(-slope * z) * jax.nn.softplus(-z)


def smooth_accuracy(
  probabilities: Float[Array, "N K"], labels: Int[Array, "N"]
) -> Float[Array, ""]:
  """The expected accuracy of classes that are sampled from the probabilities.

    mean_n p_n(y_n)

  Args:
    probabilities: of K classes, of N examples, [N, K].
    labels: the true classes, from 0 to K - 1, [N]; another one counts as wrong.

  Returns:
    The accuracy, [], from 0 to 1.
  """
  own = jax.nn.one_hot(labels, probabilities.shape[-1], dtype=bool)
  return jnp.mean(jnp.sum(jnp.where(own, probabilities, 0), axis=-1))


def smooth_f1(
  probabilities: Float[Array, "N"], targets: Float[Array, "N"]
) -> Float[Array, ""]:
  """The F1 score with counts replaced by their expected values (soft Dice).

    F1 = 2 TP / (2 TP + FP + FN) = 2 sum_n t_n p_n / sum_n (t_n + p_n)

  The mean over classes under vmap is the macro F1.

  Args:
    probabilities: p of the positive class, of N examples, [N].
    targets: t, 1 of positive examples and 0 of the others, [N].

  Returns:
    The score, [], from 0 to 1; NaN without positive examples and predictions.
  """
  return 2 * targets @ probabilities / jnp.sum(targets + probabilities)
