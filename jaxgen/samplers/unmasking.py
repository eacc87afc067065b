"""Token solvers: levels from a model of masked tokens, a few at a time.

The state x [*D] holds levels 0, ..., L - 1 and the mask token L; times are the
probabilities r with which an entry is masked, decreasing from 1 to 0, so that a
masking schedule is a grid: jnp.linspace(1, 0, N + 1) is linear, its cosine
pi / 2 (1 - r) another. They run in `samplers.integrate` on a TokenField; one
step is one evaluation of the network:

  x = jnp.full(shape, num_levels)                 # or with given levels in it
  x = samplers.integrate(samplers.unmask(), field, x, times, key)

Levels in the first state are given: they never change, which is infilling. A
final time above 0 leaves masks. Entries that are revealed in one step are
independent given those before it, so that fewer steps than entries approximate
the model; one entry a step is exact (`one_by_one`, `in_order`). A concrete
first state with other numbers than levels and the mask is rejected.

Reference: Sahoo et al. 2024, arXiv:2406.07524 (unmasking); Zheng et al. 2024,
arXiv:2409.02908 (first hitting); Chang et al. 2022, arXiv:2202.04200 (MaskGIT);
Wang et al. 2025, arXiv:2503.00307 (ReMDM).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from jaxgen import orders
from jaxgen.samplers import driver


def unmask(remask: float = 0.0) -> driver.Solver:
  """Random unmasking, the reverse of independent masking; with remasking.

  From masking probability r to s, a masked entry stays masked with probability

    (s - q (1 - r)) / r,    q = remask min(1, s / (1 - r)),

  and a visible one that was not given is masked again with probability q, so
  that the expected fraction of masked entries is s whatever q. Without
  remasking, an error in an early step stays. With it, a repeated time is a
  corrector step.

  Args:
    remask: eta, from 0 (no remasking) to 1 (as much as possible).

  Raises:
    ValueError: remask is outside of [0, 1].

  Reference: Wang et al. 2025, arXiv:2503.00307, eq. 3 and section 4.1
  (rescaled); Sahoo et al. 2024, arXiv:2406.07524, eq. 7 for eta = 0.
  """
  if not 0 <= remask <= 1:
    raise ValueError(f"remask: expected 0 to 1, got {remask}")

  def plan(path, times):
    _check_times("unmask", times)
    before, after = times[:-1], times[1:]
    visible = 1 - before
    most = jnp.where(
      after < visible, after / jnp.where(visible > 0, visible, 1), 1
    )
    again = remask * most
    stay = (after - again * visible) / jnp.where(before > 0, before, 1)
    return dict(t=before, stay=jnp.where(before > 0, stay, 0), again=again)

  def step(field, key, x, c, given):
    level_key, stay_key, again_key = jax.random.split(key, 3)
    masked = x == field.num_levels
    drawn = _draw(level_key, field(x, c["t"]))
    stays = jax.random.bernoulli(stay_key, c["stay"], x.shape)
    again = jax.random.bernoulli(again_key, c["again"], x.shape)
    hidden = jnp.where(masked, stays, again & ~given)
    levels = jnp.where(masked, drawn, x)
    return jnp.where(hidden, field.num_levels, levels).astype(x.dtype), given

  return driver.Solver(
    "unmask", plan, _given, step, num_calls=lambda n: n, needs=()
  )


def one_by_one() -> driver.Solver:
  """One random masked entry a step: exact for a model of any order.

  The first-hitting sampler of masked diffusion: N steps reveal N entries, later
  ones change nothing. The network receives the time at which the entry is
  revealed, the largest of k uniform numbers below the time before, with k the
  number of masked entries.

  Reference: Zheng et al. 2024, arXiv:2409.02908, algorithm 2.
  """

  def plan(path, times):
    _check_times("one_by_one", times)
    return dict(n=jnp.arange(len(times) - 1))

  def step(field, key, x, c, t):
    level_key, entry_key, time_key = jax.random.split(key, 3)
    masked = x == field.num_levels
    count = jnp.maximum(masked.sum(), 1)
    power = 1 / count.astype(t.dtype)
    t = t * jax.random.uniform(time_key, (), t.dtype) ** power
    draw = jax.random.uniform(entry_key, x.shape)
    first = jnp.argmax(jnp.where(masked, draw, -1))
    chosen = (jnp.arange(x.size) == first).reshape(x.shape) & masked
    drawn = _draw(level_key, field(x, t))
    return jnp.where(chosen, drawn, x).astype(x.dtype), t

  def start(field, key, x, times):
    _given(field, key, x, times)
    return times[0]

  return driver.Solver(
    "one_by_one", plan, start, step, num_calls=lambda n: n, needs=()
  )


def in_order(order: Array | np.ndarray) -> driver.Solver:
  """One entry a step, in a given order: autoregressive sampling.

  Args:
    order: a permutation of the D entries in raster order, [D]; the grid needs D
      steps. Steps at given entries change nothing.

  Raises:
    ValueError: order is no permutation, or (when run) the grid has another
      number of steps.
  """
  orders.require(order, jnp.size(order))

  def plan(path, times):
    _check_times("in_order", times)
    if len(times) != len(order) + 1:
      raise ValueError(
        f"times: expected {len(order)} steps, one an entry, got"
        f" {len(times) - 1}"
      )
    return dict(t=times[:-1], entry=jnp.asarray(order))

  def step(field, key, x, c, memory):
    orders.require(order, x.size)
    masked = x == field.num_levels
    chosen = (jnp.arange(x.size) == c["entry"]).reshape(x.shape) & masked
    drawn = _draw(key, field(x, c["t"]))
    return jnp.where(chosen, drawn, x).astype(x.dtype), memory

  return driver.Solver(
    "in_order", plan, _given, step, num_calls=lambda n: n, needs=()
  )


def confident(temperature: float = 1.0) -> driver.Solver:
  """MaskGIT: the entries whose sampled levels are most probable are kept.

  Every masked entry is sampled, with confidence

    log P(level) + temperature (1 - (n + 1) / N) Gumbel

  in step n of N, and the least confident ones are masked again until a fraction
  s of the entries that were not given is masked (rounded down). It is no
  sampler of the model: even one entry a step, confidence prefers probable
  levels at low temperatures.

  Args:
    temperature: at least 0; the amount of randomness in which entries are kept.

  Raises:
    ValueError: temperature is negative.

  Reference: Chang et al. 2022, arXiv:2202.04200, section 3.2 and appendix.
  """
  if not temperature >= 0:
    raise ValueError(f"temperature: expected at least 0, got {temperature}")

  def plan(path, times):
    _check_times("confident", times)
    number = len(times) - 1
    left = 1 - jnp.arange(1, number + 1) / number
    return dict(t=times[:-1], masked=times[1:], scale=temperature * left)

  def step(field, key, x, c, given):
    level_key, noise_key = jax.random.split(key)
    masked = x == field.num_levels
    table = field(x, c["t"])
    drawn = _draw(level_key, table)
    nats = jnp.take_along_axis(table, drawn[..., None], -1)[..., 0]
    noise = jax.random.gumbel(noise_key, x.shape, nats.dtype, mode="high")
    confidence = nats + c["scale"].astype(nats.dtype) * noise
    confidence = jnp.where(masked, confidence, jnp.inf)
    # Rounding of s times a count must not lose an entry: 1/3 of 3 is 1.
    keep = jnp.floor(c["masked"] * (~given).sum() * (1 + 1e-6))
    ranks = jnp.argsort(jnp.argsort(confidence.ravel())).reshape(x.shape)
    hidden = masked & (ranks < keep.astype(ranks.dtype))
    levels = jnp.where(masked, drawn, x)
    return jnp.where(hidden, field.num_levels, levels).astype(x.dtype), given

  return driver.Solver(
    "confident", plan, _given, step, num_calls=lambda n: n, needs=()
  )


def jump() -> driver.Solver:
  """The Euler step of discrete flow matching, for noise of any distribution.

  States are levels, mixed with noise: with probability r an entry is noise.
  From r to s, each entry jumps with probability 1 - s / r to a level sampled
  from P(data_i | x), also where it is no noise. There are no given levels.

  Reference: Gat et al. 2024, arXiv:2407.15595, eq. 24 and algorithm 1.
  """

  def plan(path, times):
    _check_times("jump", times)
    before, after = times[:-1], times[1:]
    stay = jnp.where(before > 0, after / jnp.where(before > 0, before, 1), 1)
    return dict(t=before, stay=stay)

  def step(field, key, x, c, memory):
    level_key, stay_key = jax.random.split(key)
    drawn = _draw(level_key, field(x, c["t"]))
    stays = jax.random.bernoulli(stay_key, c["stay"], x.shape)
    return jnp.where(stays, x, drawn).astype(x.dtype), memory

  return driver.Solver(
    "jump", plan, driver.no_memory, step, num_calls=lambda n: n, needs=()
  )


def _given(field, key, x, times):
  """Which entries of the first state are levels; raises for other tokens."""
  if jnp.iinfo(x.dtype).max < field.num_levels:
    raise ValueError(
      f"x: expected a dtype that holds the mask, {field.num_levels}, got"
      f" {x.dtype}"
    )
  if not isinstance(x, jax.core.Tracer):
    found = np.asarray(x)
    wrong = found[(found < 0) | (found > field.num_levels)]
    if wrong.size:
      raise ValueError(
        f"x: expected levels and the mask, 0 to {field.num_levels}, got"
        f" {wrong[0]}"
      )
  return x != field.num_levels


def _draw(key, table):
  """A level of each entry. float32's default draw never exceeds 15.94."""
  return jax.random.categorical(key, table, mode="high")


def _check_times(name: str, times: Num[Array, "..."]) -> None:
  """Raises for concrete times that are no masking probabilities."""
  driver.require_decreasing(name, times)
  if isinstance(times, jax.core.Tracer):
    return
  found = np.asarray(times)
  if not (found.min() >= 0 and found.max() <= 1):
    raise ValueError(
      f"times: expected masking probabilities in [0, 1], which {name} needs,"
      f" got {found.min():.4g} to {found.max():.4g}"
    )
