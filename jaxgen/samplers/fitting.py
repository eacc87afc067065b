"""Time grids fitted to a field and a solver: the parts of `grids.fitted`.

Accurate trajectories x of the field on M + 1 candidate times are the reference.
The local error of one step of the solver between candidates i < j starts on the
reference, with a memory from earlier steps of the same length. It is weighted
by its effect on the final data,

  cost[i, j]^2 = E (a_j . (step_ij(x_i) - x_j))^2,   a_j = (d data / d x_j)^T v,

with v standard normal, so that the expectation over v is
|d data / d x_j error|^2. Dynamic programming finds the N steps of minimal total
cost.

Local errors have signs and partly cancel, which a sum of absolute values
ignores. So the Levenberg-Marquardt method then adjusts the N - 1 inner times to
minimise the error of the final data on half of the particles. The result is
the iterate with the smallest error on the other half.

All functions are pure functions of arrays, to be jitted by the caller.

Reference: Chen et al. 2024, arXiv:2405.11326 (dynamic programming on Euler's
local error); Becker and Rannacher 2001, Acta Numerica 10 (errors weighted by
the adjoint); Marquardt 1963, SIAM J. Appl. Math. 11(2).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgen import fields
from jaxgen.samplers import driver, exponential, ode

HISTORY = 3  # earlier steps, enough for the memory of a method of order four
SUBSTEPS = 4  # steps of the reference between two candidates


class Reference(NamedTuple):
  """A fine trajectory of one particle.

  Attributes:
    states: states at the candidates, [M + 1, *D].
    adjoints: a, the vector-Jacobian product of v at each state, [M + 1, *D].
    data: the final denoised state, [*D].
  """

  states: Array
  adjoints: Array
  data: Array


def reference(
  field: fields.Field,
  x: Float[Array, "*D"],
  times: Float[Array, "fine"],
  key: Array,
) -> Reference:
  """The reference, by rk4; its adjoints, by vjps of one ddim step per interval.

  A more accurate adjoint gives the same grids. Reverse mode is expensive: in
  loops on a CPU, XLA's gradients of convolutions take thirty times as long as
  the convolutions.

  Args:
    field: gives velocity and data.
    x: the state at times[0], [*D].
    times: SUBSTEPS steps per candidate interval, [SUBSTEPS M + 1].
    key: key for v.
  """
  fine, rough, candidates = ode.rk4(), exponential.ddim(), times[::SUBSTEPS]
  shape = len(candidates) - 1, SUBSTEPS
  plan = ode.steps(field.path, times)
  plan = jax.tree.map(lambda leaf: leaf.reshape(shape), plan)

  def forward(x, plan):
    step = lambda x, c: (fine.step(field, key, x, c, ())[0], None)
    x = jax.lax.scan(step, x, plan)[0]
    return x, x

  def backward(adjoint, inputs):
    x, c = inputs
    step = lambda x: rough.step(field, key, x, c, ())[0]
    adjoint = jax.vjp(step, x)[1](adjoint)[0]
    return adjoint, adjoint

  end, states = jax.lax.scan(forward, x, plan)
  states = jnp.concatenate([x[None], states])
  denoise = lambda x: jnp.asarray(field(x, times[-1]).data)
  data, pull = jax.vjp(denoise, end)
  last = pull(driver.normal(jax.random.fold_in(key, 0), data))[0]
  steps = states[:-1], rough.plan(field.path, candidates)
  _, adjoints = jax.lax.scan(backward, last, steps, reverse=True)
  return Reference(states, jnp.concatenate([adjoints, last[None]]), data)


def windows(num_candidates: int) -> list[np.ndarray]:
  """The candidates of each step i -> j and of the steps that precede it.

  Returns:
    For n = 0 ... HISTORY, indices [pairs, n + 2] whose last two columns are i
    and j; the first n are the earlier starts, j - i apart and at least 0.
  """
  found: list[list] = [[] for _ in range(HISTORY + 1)]
  for i in range(num_candidates):
    for j in range(i + 1, num_candidates + 1):
      n = min(HISTORY, -(-i // (j - i)))
      behind = [max(0, i - k * (j - i)) for k in range(n, 0, -1)]
      found[n].append([*behind, i, j])
  return [np.array(rows) for rows in found if rows]


def local_errors(
  field: fields.Field,
  solver: driver.Solver,
  times: Float[Array, "candidates"],
  found: Reference,
  key: Array,
) -> Float[Array, "candidates candidates"]:
  """(a_j . (step_ij(x_i) - x_j))^2 for one particle, 0 where i >= j."""
  init_key, step_key = jax.random.split(jax.random.fold_in(key, 1))

  def one(window):
    t, states = times[window], found.states[window]
    memory = solver.init(field, init_key, states[0], t)

    def body(memory, inputs):
      x, c = inputs
      x, memory = solver.step(field, step_key, x, c, memory)
      return memory, x

    plan = solver.plan(field.path, t)
    _, reached = jax.lax.scan(body, memory, (states[:-1], plan))
    return jnp.vdot(found.adjoints[window[-1]], reached[-1] - states[-1]) ** 2

  squares = jnp.zeros((len(times), len(times)), found.data.dtype)
  for rows in windows(len(times) - 1):
    values = jax.lax.map(one, jnp.asarray(rows))
    squares = squares.at[rows[:, -2], rows[:, -1]].set(values)
  return squares


def costs(
  field: fields.Field,
  solver: driver.Solver,
  x: Float[Array, "P ..."],
  fine: Float[Array, "fine"],
  draws: Array,
  over: Callable,
) -> tuple[Float[Array, "candidates candidates"], Float[Array, "P ..."]]:
  """The table of costs, and the final data of the reference.

  Args:
    field: gives velocity and data.
    solver: the solver whose steps are measured.
    x: particles at fine[0], [P, *D].
    fine: times, SUBSTEPS steps per candidate interval.
    draws: a key for each particle, [P].
    over: maps a function of one particle over many.
  """
  found = over(lambda p: reference(field, p[0], fine, p[1]), (x, draws))
  candidates = fine[::SUBSTEPS]
  errors = lambda p: local_errors(field, solver, candidates, *p)
  return jnp.sqrt(over(errors, (found, draws)).mean(0)), found.data


def shortest(
  cost: Float[Array, "n n"], num_steps: int
) -> tuple[Int[Array, "steps"], Float[Array, ""]]:
  """The path 0 -> n - 1 of num_steps edges i < j with minimal total cost.

  Args:
    cost: cost of each edge, [n, n]; entries that are not finite, or not above
      the diagonal, are not edges.
    num_steps: N < n.

  Returns:
    The path's nodes, [N + 1], and its cost (infinite if there is no path).
  """
  edge = jnp.triu(jnp.ones(cost.shape, bool), 1) & jnp.isfinite(cost)
  cost = jnp.where(edge, cost, jnp.inf)

  def extend(best, _):  # best[j]: minimal cost to reach j in k steps
    total = best[:, None] + cost
    return total.min(0), total.argmin(0)

  start = jnp.where(jnp.arange(len(cost)) == 0, 0.0, jnp.inf)
  best, before = jax.lax.scan(
    extend, start.astype(cost.dtype), length=num_steps
  )
  last = jnp.asarray(len(cost) - 1, before.dtype)
  back = lambda node, row: (row[node], row[node])
  _, nodes = jax.lax.scan(back, last, before, reverse=True)
  return jnp.append(nodes, last), best[-1]


def refine(
  end: Callable,
  params: Float[Array, "n"],
  particles: Any,
  num_iterations: int,
  over: Callable,
) -> Float[Array, "n"]:
  """The Levenberg-Marquardt method on half of the particles.

    (J^T J + damping diag(J^T J)) change = -J^T residual

  Args:
    end: (params, particle) -> residual.
    params: initial value, [n].
    particles: a pytree, leaves [P, ...], P >= 2.
    num_iterations: number of iterations, with one Jacobian each.
    over: maps a function of one particle over many.

  Returns:
    The iterate (or initial value) with the smallest error on the other half.
  """
  half = len(jax.tree.leaves(particles)[0]) // 2
  seen = jax.tree.map(lambda leaf: leaf[:half], particles)
  held_out = jax.tree.map(lambda leaf: leaf[half:], particles)

  def normal(params):
    def one(particle):
      twice = lambda p: (end(p, particle),) * 2
      jacobian, residual = jax.jacfwd(twice, has_aux=True)(params)
      jacobian, residual = jacobian.reshape(-1, len(params)), residual.ravel()
      return jacobian.T @ jacobian, residual @ jacobian, residual @ residual

    square = lambda particle: (end(params, particle) ** 2).sum()
    sums = jax.tree.map(lambda leaf: leaf.mean(0), over(one, seen))
    return sums, over(square, held_out).mean()

  def body(carry, _):
    params, (matrix, vector, loss), damping, best = carry
    scale = jnp.diag(matrix) + 1e-6 * jnp.trace(matrix)
    change = jnp.linalg.solve(matrix + damping * jnp.diag(scale), -vector)
    proposal = params + jnp.clip(change, -1, 1)
    sums, score = normal(proposal)
    better = sums[2] < loss  # False if not finite
    pick = functools.partial(jnp.where, better)
    params = pick(proposal, params)
    sums = jax.tree.map(pick, sums, (matrix, vector, loss))
    damping = jnp.maximum(pick(damping / 4, damping * 4), 1e-4)
    improved = better & (score < best[1])
    keep = functools.partial(jnp.where, improved)
    best = jax.tree.map(keep, (params, score), best)
    return (params, sums, damping, best), None

  # The first iteration changes nothing: it evaluates the initial value.
  number, infinite = len(params), jnp.asarray(jnp.inf, params.dtype)
  sums = jnp.eye(number, dtype=params.dtype), jnp.zeros_like(params), infinite
  damping = jnp.asarray(0.4, params.dtype)
  carry = params, sums, damping, (params, infinite)
  (_, _, _, best), _ = jax.lax.scan(body, carry, length=num_iterations + 1)
  return best[0]


def times_of(
  logits: Float[Array, "n"], to_times: Callable
) -> Float[Array, "n+1"]:
  """to_times(shares), with shares from 0 to 1 in steps of softmax(logits)."""
  share = jnp.cumsum(jax.nn.softmax(logits))
  return to_times(jnp.concatenate([jnp.zeros_like(share[:1]), share]))


def error_at_end(
  field: fields.Field, solver: driver.Solver, to_times: Callable
) -> Callable:
  """(logits [N], (x, data, key)) -> the error of the final data, [*D]."""

  def error(logits, particle):
    x, data, key = particle
    times = times_of(logits, to_times)
    x = driver.integrate(solver, field, x, times, jax.random.fold_in(key, 2))
    return field(x, times[-1]).data - data

  return error
