"""Langevin dynamics: correctors at a noise level, and stationary densities.

On a stationary field (fields.from_log_density) the differences of the grid are
the step sizes, and their sign does not matter. The unadjusted algorithm is
sde.euler_maruyama with eps = 1.
"""

import jax
import jax.numpy as jnp

from jaxgen.samplers import driver


def predictor_corrector(
  predictor: driver.Solver, num_corrections: int = 1, snr: float = 0.16
) -> driver.Solver:
  """A predictor's step, then Langevin steps at the time it reached.

    x += pull score + sqrt(2 pull) z,   pull = 2 (snr sigma)^2

  (Song et al. use a ratio of norms, snr |z| / |score|, which is close to
  snr sigma.)

  Args:
    predictor: any solver on a path.
    num_corrections: Langevin steps, at least 1, with one evaluation each.
    snr: signal-to-noise ratio of a Langevin step, positive.

  Reference: Song et al. 2021, arXiv:2011.13456, algorithms 2, 4 and 5.

  Raises:
    ValueError: num_corrections or snr is out of range.
  """
  name = f"predictor_corrector({predictor.name})"
  return _corrected(name, predictor, num_corrections, snr)


def annealed(num_corrections: int = 1, snr: float = 0.16) -> driver.Solver:
  """Annealed Langevin dynamics: Langevin steps at decreasing noise levels.

  Between levels x / alpha is unchanged. The levels are the grid's times without
  the first. Args as in `predictor_corrector`. It needs many levels (a ratio of
  about .8 between neighbours) and several steps at each.

  Reference: Song and Ermon 2019, arXiv:1907.05600, algorithm 1.

  Raises:
    ValueError: num_corrections or snr is out of range.
  """

  def plan(path, times):
    alpha = path.alpha(times)
    return dict(scale=alpha[1:] / alpha[:-1])

  def step(field, key, x, c, memory):
    return c["scale"] * x, memory

  stay = driver.Solver(
    "stay", plan, driver.no_memory, step, lambda n: 0, ("path",)
  )
  return _corrected("annealed", stay, num_corrections, snr)


def _corrected(name, predictor, num_corrections, snr):
  if num_corrections < 1:
    raise ValueError(
      f"{name}: expected num_corrections of at least 1, got {num_corrections}"
    )
  if not snr > 0:
    raise ValueError(f"{name}: expected a positive snr, got {snr}")

  def plan(path, times):
    pull = 2 * (snr * path.sigma(times[1:])) ** 2
    c = dict(t=times[1:], pull=pull, std=driver.root(2 * pull))
    return predictor.plan(path, times), c

  def step(field, key, x, coefficients, memory):
    inner, c = coefficients
    predictor_key, corrector_key = jax.random.split(key)
    x, memory = predictor.step(field, predictor_key, x, inner, memory)

    def correct(x, i):
      move = c["pull"] * field(x, c["t"]).score
      draw_key = jax.random.fold_in(corrector_key, i)
      return driver.add_noise(draw_key, x + move, c), None

    return jax.lax.scan(correct, x, jnp.arange(num_corrections))[0], memory

  return driver.Solver(
    name,
    plan,
    predictor.init,
    step,
    lambda n: predictor.num_calls(n) + num_corrections * n,
    tuple(dict.fromkeys((*predictor.needs, "score", "path"))),
  )


def _step_sizes(path, times):
  return dict(t=times[1:], dt=jnp.abs(jnp.diff(times)))


def mala() -> driver.Solver:
  """Metropolis-adjusted Langevin: leaves a stationary density invariant.

    y = x + dt score(x) + sqrt(2 dt) z, accepted with probability
    min(1, p(y) q(x | y) / (p(x) q(y | x)))

  One evaluation per step, and one before the first.

  Reference: Roberts and Tweedie 1996, Bernoulli 2(4).
  """

  def init(field, key, x, times):
    at = field(x, times[0])
    return at.log_prob, at.score

  def step(field, key, x, c, memory):
    draw_key, accept_key = jax.random.split(key)
    (log_prob, score), dt = memory, c["dt"]
    draw = driver.normal(draw_key, x)
    y = x + dt * score + driver.root(2 * dt) * draw
    at = field(y, c["t"])
    # In a step of length zero y = x, and division by 0 must be avoided.
    length = jnp.where(dt == 0, 1.0, dt)
    back = jnp.sum((x - y - dt * at.score) ** 2) / (4 * length)
    log_ratio = at.log_prob - log_prob - back + jnp.sum(draw**2) / 2
    uniform = jax.random.uniform(accept_key, (), x.dtype)
    taken = jnp.log1p(-uniform) < log_ratio
    pick = lambda new, old: jnp.where(taken, new, old)
    return pick(y, x), (pick(at.log_prob, log_prob), pick(at.score, score))

  return driver.Solver(
    "mala", _step_sizes, init, step, lambda n: n + 1, ("score", "log_prob")
  )


def baoab(friction: float = 1.0) -> driver.Solver:
  """Underdamped Langevin dynamics of a stationary density, unit mass.

    dx = p dt,   dp = score dt - friction p dt + sqrt(2 friction) dW

  by the splitting half kick, half drift, friction and noise, half drift, half
  kick. One evaluation per step, and one before the first. Second order in the
  step; positions are exact for Gaussian densities.

  Args:
    friction: friction coefficient, per unit of time, positive.

  Reference: Leimkuhler and Matthews 2013, Applied Mathematics Research eXpress
  2013(1).

  Raises:
    ValueError: friction is not positive.
  """
  if not friction > 0:
    raise ValueError(f"baoab: expected a positive friction, got {friction}")

  def init(field, key, x, times):
    return driver.normal(key, x), field(x, times[0]).score

  def step(field, key, x, c, memory):
    (momentum, score), dt = memory, c["dt"]
    momentum = momentum + dt / 2 * score
    x = x + dt / 2 * momentum
    keep = jnp.exp(-friction * dt)
    std = driver.root(-jnp.expm1(-2 * friction * dt))
    momentum = keep * momentum + std * driver.normal(key, x)
    x = x + dt / 2 * momentum
    score = field(x, c["t"]).score
    return x, (momentum + dt / 2 * score, score)

  return driver.Solver(
    "baoab", _step_sizes, init, step, lambda n: n + 1, ("score",)
  )
