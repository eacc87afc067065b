"""Estimators of the gradient of an expectation, d/dparams E f(x), x ~ p_params.

Every estimator takes a key, f and the distribution of x, and returns one
number, the surrogate. Its value is a Monte Carlo estimate of E f(x), and its
gradient an estimate of the gradient of E f(x) with respect to everything that
is differentiated: the parameters of the distribution and those that f closes
over, which may be the same ones (log q in an ELBO). So `jax.grad` of a
surrogate is used like `jax.grad` of a loss. In the formulas, sg is
stop_gradient, and c - sg(c) is zero with the gradient of c.

Unbiased: `pathwise`, for an f with a gradient; `score_function`; `arm`,
`disarm` and `measure_valued`. Biased: `gumbel_softmax`, `straight_through`.
docs/estimators.md has the bias and variance of each on one problem. Second
derivatives of the surrogate are estimates too for `pathwise` and
`score_function`; those of the others have no meaning.

A sample has shape [*D]; one of Bernoulli variables is an array of zeros and
ones, one of categorical variables is one-hot, [*D, K]. Logits are finite. The
mean over several keys, under vmap, has a lower variance.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import keys

Surrogate = Float[Array, ""]


def pathwise(key: Array, f: Callable, sample_fn: Callable) -> Surrogate:
  """f at a sample that is a differentiable function of the parameters.

    grad f(x(params, noise)),   unbiased where f is continuous, with a gradient

  With z a standard normal sample, x = mean + std z is a Gaussian one; any
  location-scale family is alike. `jax.random.gamma(key, a)` and
  `jax.random.beta(key, a, b)` have the implicit derivative with respect to a
  and b, dx/da = -(dF/da) / p(x), with F the distribution function.

  Args:
    key: a typed key.
    f: [*D] -> [].
    sample_fn: key -> x [*D], parameters bound, differentiable in them.

  Returns:
    The surrogate, [].

  Raises:
    ValueError: key is not a typed key, or f does not return a scalar.

  Reference: Kingma and Welling 2014, arXiv:1312.6114, section 2.4; Figurnov et
  al. 2018, arXiv:1805.08498.
  """
  keys.require_typed(key)
  return _scalar("f", f)(sample_fn(key))


def score_function(
  key: Array,
  f: Callable,
  sample_fn: Callable,
  log_prob_fn: Callable,
  num_samples: int,
) -> Surrogate:
  """f times the score, with the mean of the other samples as baseline.

    mean_k (f(x_k) - b_k) grad log p(x_k) + grad f(x_k),
    b_k = sum_{j != k} f(x_j) / (K - 1),   b_1 = 0 if K = 1

  Unbiased for every distribution with a log-probability, and f need not be
  differentiable in x. The surrogate mean_k f(x_k) m_k + b_k (1 - m_k), with
  m = exp(log p - sg(log p)), has unbiased second derivatives too.

  Args:
    key: a typed key.
    f: [*D] -> [], called K times under vmap.
    sample_fn: key -> x [*D], parameters bound.
    log_prob_fn: x -> log p(x), [], finite, parameters bound. For Bernoulli
      variables it is -sum(softplus((1 - 2 x) logits)), and for categorical ones
      sum(x log_softmax(logits)).
    num_samples: K, at least 1.

  Returns:
    The surrogate, [].

  Raises:
    ValueError: key is not a typed key, num_samples is below 1, or f or
      log_prob_fn does not return a scalar.

  Reference: Foerster et al. 2018, arXiv:1802.05098 (the surrogate);
  Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!".
  """
  keys.require_typed(key)
  if num_samples < 1:
    raise ValueError(f"num_samples: expected at least 1, got {num_samples}")
  x = jax.vmap(sample_fn)(jax.random.split(key, num_samples))
  x = jax.lax.stop_gradient(x)
  values = jax.vmap(_scalar("f", f))(x)
  log_p = jax.vmap(_scalar("log_prob_fn", log_prob_fn))(x)
  others = jnp.sum(values) - values  # 0 if there is no other
  baseline = others / max(num_samples - 1, 1)
  magic = jnp.exp(log_p - jax.lax.stop_gradient(log_p))
  return jnp.mean(values * magic + baseline * (1 - magic))


def gumbel_softmax(
  key: Array,
  f: Callable,
  logits: Float[Array, "..."],
  temperature: Float[ArrayLike, ""],
) -> Surrogate:
  """f at a relaxed one-hot sample.

    y = softmax((logits + g) / temperature),   g standard Gumbel

  Biased for E f of the categorical distribution, in value and gradient. It is
  unbiased for E f(y), which tends to E f as the temperature falls to 0, while
  the variance of the gradient grows. A Bernoulli variable is the last of two
  classes with logits (0, logit).

  Args:
    key: a typed key.
    f: [*D, K] -> [], differentiable, and defined inside the simplex.
    logits: unnormalised log-probabilities, [*D, K].
    temperature: positive.

  Returns:
    The surrogate, [].

  Raises:
    ValueError: key is not a typed key, logits has no axis of classes, the
      temperature is not positive, or f does not return a scalar.

  Reference: Jang et al. 2017, arXiv:1611.01144, eq. 2; Maddison et al. 2017,
  arXiv:1611.00712.
  """
  scores = _perturbed(key, logits)
  return _scalar("f", f)(_relaxed(scores, temperature))


def straight_through(
  key: Array,
  f: Callable,
  logits: Float[Array, "..."],
  temperature: Float[ArrayLike, ""],
) -> Surrogate:
  """f at a one-hot sample, with the gradient of the relaxed sample.

    x = one_hot(argmax(logits + g)) + y - sg(y),   y as in `gumbel_softmax`

  The value is unbiased, and so is the gradient with respect to what f closes
  over. The gradient with respect to the logits is biased.

  Args and Raises: as in `gumbel_softmax`.

  Returns:
    The surrogate, [].

  Reference: Jang et al. 2017, arXiv:1611.01144, section 2.2; Bengio et al.
  2013, arXiv:1308.3432.
  """
  scores = _perturbed(key, logits)
  soft = _relaxed(scores, temperature)
  classes = jnp.argmax(scores, axis=-1)
  hard = jax.nn.one_hot(classes, logits.shape[-1], dtype=soft.dtype)
  return _scalar("f", f)(hard + (soft - jax.lax.stop_gradient(soft)))


def arm(key: Array, f: Callable, logits: Float[Array, "*D"]) -> Surrogate:
  """Augment, REINFORCE, merge: two antithetic samples of Bernoulli variables.

    (f(b) - f(b')) (u - 1/2),   b = [u > sigmoid(-logits)],
    b' = [u < sigmoid(logits)],   u uniform

  Unbiased, with two evaluations of f whatever the number of variables.

  Args:
    key: a typed key.
    f: [*D] -> [], called twice under vmap.
    logits: log-odds of a one, [*D].

  Returns:
    The surrogate, [], with the mean of the two values.

  Raises:
    ValueError: key is not a typed key, or f does not return a scalar.

  Reference: Yin and Zhou 2019, arXiv:1807.11143, theorem 1.
  """
  noise = _logistic(key, logits)  # logit(u)
  weight = jnp.tanh(noise / 2) / 2  # u - 1/2
  return _antithetic(f, logits, noise, lambda b, other: weight)


def disarm(key: Array, f: Callable, logits: Float[Array, "*D"]) -> Surrogate:
  """ARM given its two samples: the mean over the noise that leads to them.

    (f(b) - f(b')) (b - b') sigmoid(|logits|) / 2

  Unbiased, and never of larger variance than `arm`, from the same samples.

  Args, Returns and Raises: as in `arm`.

  Reference: Dong et al. 2020, arXiv:2006.10680.
  """
  noise = _logistic(key, logits)
  scale = jax.nn.sigmoid(jnp.abs(logits)) / 2
  return _antithetic(f, logits, noise, lambda b, other: (b - other) * scale)


def measure_valued(
  key: Array, f: Callable, logits: Float[Array, "*D"]
) -> Surrogate:
  """Differences of f between the two values of each Bernoulli variable.

    sigmoid'(logit_i) (f(b with b_i = 1) - f(b with b_i = 0))

  Unbiased, and exact for one variable, with one evaluation of f more than there
  are variables. Also known as the local expectation gradient.

  Args:
    key: a typed key.
    f: [*D] -> [], called size + 1 times under vmap.
    logits: log-odds of a one, [*D].

  Returns:
    The surrogate, [], with the value at the sample b.

  Raises:
    ValueError: key is not a typed key, or f does not return a scalar.

  Reference: Mohamed et al. 2020, arXiv:1906.10652, section 6; Titsias and
  Lazaro-Gredilla 2015, arXiv:1503.01494.
  """
  b = (logits + _logistic(key, logits) > 0).astype(logits.dtype)
  one = jnp.eye(b.size, dtype=bool).reshape(b.size, *b.shape)
  flipped = jnp.where(one, 1 - b[None], b[None])
  f = _scalar("f", f)
  value, others = f(b), jax.vmap(f)(flipped).reshape(b.shape)
  rate = jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits)
  return _surrogate(value, logits, rate * (value - others) * (2 * b - 1))


def _scalar(name, fn):
  """fn, whose result is checked to be a floating-point scalar."""

  def checked(x):
    value = fn(x)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
      got = type(value).__name__ if dtype is None else f"{dtype}{list(shape)}"
      raise ValueError(f"{name}: expected a scalar, float[], got {got}")
    return value

  return checked


def _surrogate(value, params, slope):
  """The value, to whose gradient that of slope . params is added."""
  change = params - jax.lax.stop_gradient(params)
  return value + jnp.sum(jax.lax.stop_gradient(slope) * change)


def _logistic(key, logits):
  """Logistic noise, as a difference of Gumbels: both tails are accurate."""
  keys.require_typed(key)
  shape = (2, *logits.shape)
  g = jax.random.gumbel(key, shape, logits.dtype, mode="high")
  return g[0] - g[1]


def _antithetic(f, logits, noise, weigh):
  """The mean of f at two samples; (f(b) - f(b')) weigh(b, b') for gradient."""
  pair = jnp.stack([logits + noise, logits - noise]) > 0
  pair = pair.astype(logits.dtype)
  values = jax.vmap(_scalar("f", f))(pair)
  slope = (values[0] - values[1]) * weigh(*pair)
  return _surrogate(jnp.mean(values), logits, slope)


def _perturbed(key, logits):
  """logits + Gumbel noise, whose largest entry is a categorical sample."""
  keys.require_typed(key)
  if logits.ndim == 0:
    raise ValueError("logits: expected shape [*D, K], got []")
  shape = logits.shape  # the default mode never exceeds 16 in float32
  return logits + jax.random.gumbel(key, shape, logits.dtype, mode="high")


def _relaxed(scores, temperature):
  if not isinstance(temperature, jax.core.Tracer) and not temperature > 0:
    raise ValueError(
      f"temperature: expected a positive number, got {temperature}"
    )
  return jax.nn.softmax(scores / temperature, axis=-1)
