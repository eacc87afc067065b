"""The flow map of a diagonal Gaussian on any path, in closed form.

X(x, t, s) = alpha_s m + S_s / S_t (x - alpha_t m),   S^2 = alpha^2 v + sigma^2
"""

import jax.numpy as jnp
import numpy as np

MEAN, STD = np.array([0.5, -1.0, 2.0]), np.array([0.3, 0.9, 1.4])
X = np.array([0.4, -1.3, 0.8])


def spread(path, t, dtype):
  """Standard deviation of x_t, [D]."""
  return jnp.hypot(path.alpha(t) * jnp.asarray(STD, dtype), path.sigma(t))


def state(path, t, dtype=jnp.float32):
  """The state at t of one trajectory, [D]."""
  mean, x = jnp.asarray(MEAN, dtype), jnp.asarray(X, dtype)
  return path.alpha(t) * mean + spread(path, t, dtype) * x


def end(path, x, t, s):
  """X(x, t, s)."""
  mean = jnp.asarray(MEAN, x.dtype)
  ratio = spread(path, s, x.dtype) / spread(path, t, x.dtype)
  return path.alpha(s) * mean + ratio * (x - path.alpha(t) * mean)


def velocity(path, x, t):
  """v(x, t), from the conditional means of data and noise."""
  mean, var = jnp.asarray(MEAN, x.dtype), jnp.asarray(STD, x.dtype) ** 2
  alpha, sigma = path.alpha(t), path.sigma(t)
  total = alpha**2 * var + sigma**2
  data = (sigma**2 * mean + alpha * var * x) / total
  noise = sigma * (x - alpha * mean) / total
  alpha_rate, sigma_rate = path.rates(t)
  return alpha_rate * data + sigma_rate * noise


def mean_velocity(path):
  """u(x, t, s) for s != t."""
  return lambda x, t, s: (end(path, x, t, s) - x) / (s - t)
