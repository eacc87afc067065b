"""fitting.refine against Levenberg and Marquardt's method in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.samplers import fitting

# Three targets: the first is fitted, the other two are held out.
PARTICLES = np.array([[1.0, 2.0, -0.5], [1.5, 1.0, 0.0], [0.5, 3.0, -1.0]])
START = np.array([0.5, -1.9, -2.1])


def residual(params, particle, xp):
  a, b, c = params
  return xp.stack(
    [
      xp.exp(a / 2) - particle[0],
      a * b - particle[1],
      4 * xp.sin(2 * b) + c - particle[2],
      c**2 * a / 3,
    ]
  )


def jacobian(params):
  """Its rows, by hand."""
  a, b, c = params
  return np.array(
    [
      [np.exp(a / 2) / 2, 0, 0],
      [b, a, 0],
      [0, 8 * np.cos(2 * b), 1],
      [c**2 / 3, 0, 2 * c * a / 3],
    ]
  )


def marquardt(num_iterations):
  """(J^T J + damping diag) change = -J^T r; the best on the held-out ones.

  The damping begins at .1, falls fourfold, not below 1e-4, with each step that
  helps and rises fourfold where none does; no entry moves by more than 1.
  """

  def at(params):
    r = residual(params, PARTICLES[0], np)
    score = np.mean(
      [(residual(params, p, np) ** 2).sum() for p in PARTICLES[1:]]
    )
    return r, score

  params, damping, refused = START, 0.1, 0
  (r, score), loss = at(params), np.sum(at(params)[0] ** 2)
  best, least = params, score
  for _ in range(num_iterations):
    j = jacobian(params)
    matrix = j.T @ j
    scale = np.diag(matrix) + 1e-6 * np.trace(matrix)
    change = np.linalg.solve(matrix + damping * np.diag(scale), -j.T @ r)
    proposal = params + np.clip(change, -1, 1)
    tried, score = at(proposal)
    if np.sum(tried**2) < loss:
      params, r, loss = proposal, tried, np.sum(tried**2)
      damping = max(damping / 4, 1e-4)
      if score < least:
        best, least = params, score
    else:
      damping, refused = damping * 4, refused + 1
  return best, refused


@pytest.mark.parametrize("num_iterations", [0, 1, 3, 6, 10])
def test_refine_is_marquardts_method(num_iterations):
  truth, _ = marquardt(num_iterations)
  end = lambda params, particle: residual(params, particle, jnp)
  over = lambda f, xs: jax.lax.map(f, xs)
  run = lambda start, particles: fitting.refine(
    end, start, particles, num_iterations, over
  )
  with jax.enable_x64(True):
    found = jax.jit(run)(jnp.asarray(START), jnp.asarray(PARTICLES))
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, truth, rtol=1e-11, atol=1e-12)


def test_the_example_has_both_kinds_of_steps():
  bests = [marquardt(n)[0] for n in range(11)]
  moved = [np.any(a != b) for a, b in itertools.pairwise(bests)]
  assert marquardt(10)[1] > 0 and sum(moved) > 3
  limit = np.abs(bests[1] - START).max()  # of a step
  np.testing.assert_allclose(limit, 1, rtol=1e-12)


def test_times_are_shares_of_the_whole():
  """softmax(log 1, log 3, log 4) is 1/8, 3/8, 1/2."""
  logits = jnp.log(jnp.array([1.0, 3.0, 4.0]))
  found = fitting.times_of(logits, lambda share: 2 - share)
  np.testing.assert_allclose(found, [2, 1.875, 1.5, 1], rtol=1e-6)


def test_windows_look_three_steps_back():
  """Of 5 candidates, by the docstring: steps of one length, clipped at 0."""
  found = {tuple(row) for rows in fitting.windows(5) for row in rows.tolist()}
  assert found == {
    *((0, j) for j in range(1, 6)),
    *((0, 1, 2), (0, 1, 3), (0, 1, 4), (0, 1, 5)),
    *((0, 1, 2, 3), (0, 2, 4), (0, 2, 5)),
    *((0, 1, 2, 3, 4), (0, 1, 3, 5), (1, 2, 3, 4, 5)),
  }
