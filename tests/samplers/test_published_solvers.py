"""Exponential and multistep solvers equal the published formulas, in NumPy.

Each is transcribed as its paper writes it (its own table of r, D and phi, not
the weights of forms.py), float64, on a grid whose steps all differ. The model
is the exact denoiser of a mixture with width.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from jaxgen import samplers
from tests.samplers import mixture_runs
from tests.truth import mixture

NAME = "vp"
RATIOS = 20.0 * np.array([1, 0.6, 0.25, 0.12, 0.05, 0.011, 0.004, 0.002])
X = np.array([0.7, -0.4])
s = mixture.scales(NAME)
times = np.array([mixture.time(NAME, ratio) for ratio in RATIOS])
alpha, sigma = s.alpha(times), s.sigma(times)
lam = -np.log(RATIOS)  # log(alpha / sigma), increasing
N, STEPS = len(times) - 1, np.diff(lam)


_data = mixture.denoise


def _scales(middle):
  """alpha and sigma at a log(alpha / sigma)."""
  t = mixture.time(NAME, np.exp(-middle))
  return s.alpha(t), s.sigma(t)


def _noise(x, a, b):
  return (x - a * mixture.denoise(x, a, b)) / b


def _equals(solver, expected, atol=1e-11):
  with jax.enable_x64(True):
    path = mixture.jaxgen_path(NAME)
    end, _ = mixture_runs.run(solver, path, times, X)
  np.testing.assert_allclose(end, expected, rtol=0, atol=atol)


def test_dpm_solver_2s_is_algorithm_1():
  x = X
  for i, h in enumerate(STEPS):
    a, b = _scales(lam[i] + h / 2)
    eps = _noise(x, alpha[i], sigma[i])
    u = a / alpha[i] * x - b * np.expm1(h / 2) * eps
    middle = _noise(u, a, b)
    x = alpha[i + 1] / alpha[i] * x - sigma[i + 1] * np.expm1(h) * middle
  _equals(samplers.dpm_solver_2s(), x)


def test_dpm_solver_3s_is_algorithm_2():
  x, r1, r2 = X, 1 / 3, 2 / 3
  for i, h in enumerate(STEPS):
    (a1, b1), (a2, b2) = _scales(lam[i] + r1 * h), _scales(lam[i] + r2 * h)
    eps = _noise(x, alpha[i], sigma[i])
    u1 = a1 / alpha[i] * x - b1 * np.expm1(r1 * h) * eps
    d1 = _noise(u1, a1, b1) - eps
    u2 = a2 / alpha[i] * x - b2 * np.expm1(r2 * h) * eps
    u2 = u2 - b2 * r2 / r1 * (np.expm1(r2 * h) / (r2 * h) - 1) * d1
    d2 = _noise(u2, a2, b2) - eps
    x = alpha[i + 1] / alpha[i] * x - sigma[i + 1] * np.expm1(h) * eps
    x = x - sigma[i + 1] / r2 * (np.expm1(h) / h - 1) * d2
  _equals(samplers.dpm_solver_3s(), x)


def test_dpmpp_2s_is_algorithm_1_of_dpm_solver_pp():
  x = X
  for i, h in enumerate(STEPS):
    a, b = _scales(lam[i] + h / 2)
    u = b / sigma[i] * x - a * np.expm1(-h / 2) * _data(x, alpha[i], sigma[i])
    d = _data(u, a, b)  # (1 - 1 / 2r) D_0 + 1 / 2r D_u, r = 1 / 2
    x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * np.expm1(-h) * d
  _equals(samplers.dpmpp_2s(), x)


def _dpmpp_multistep(order):
  """Algorithm 2; with order 3 the third-order update of its section 4.2."""
  x, found = X, []
  for i, h in enumerate(STEPS):
    found.insert(0, _data(x, alpha[i], sigma[i]))
    gain = -alpha[i + 1] * np.expm1(-h)
    keep = sigma[i + 1] / sigma[i] * x
    if i == 0:
      x = keep + gain * found[0]
      continue
    r0 = (lam[i] - lam[i - 1]) / h
    d1_0 = (found[0] - found[1]) / r0
    if i == 1 or order == 2:
      x = keep + gain * (found[0] + d1_0 / 2)
      continue
    r1 = (lam[i - 1] - lam[i - 2]) / h
    d1_1 = (found[1] - found[2]) / r1
    d1 = d1_0 + r0 / (r0 + r1) * (d1_0 - d1_1)
    d2 = (d1_0 - d1_1) / (r0 + r1)
    phi2 = np.expm1(-h) / h + 1
    phi3 = phi2 / h - 0.5
    # 2 phi3: with phi3 alone the order is two.
    x = keep + gain * found[0]
    x = x + alpha[i + 1] * phi2 * d1 - alpha[i + 1] * 2 * phi3 * d2
  return x


def test_dpmpp_2m_is_algorithm_2():
  _equals(samplers.dpmpp_2m(), _dpmpp_multistep(2))


def test_dpmpp_3m_is_the_third_order_update():
  _equals(samplers.dpmpp_3m(), _dpmpp_multistep(3))


def _unipc_update(order, x, i, found, next_data=None):
  """x at lam[i + 1] from lam[i]; found: data at i, i - 1, ... (section 3.2).

  The paper's system R rho = b with B_2(h) = exp(h) - 1 of data prediction, and
  its rho = 1/2 where there is one unknown.
  """
  hh = -(lam[i + 1] - lam[i])
  rks = [(lam[i - k] - lam[i]) / (lam[i + 1] - lam[i]) for k in range(1, order)]
  d1s = [(found[k] - found[0]) / rks[k - 1] for k in range(1, order)]
  if next_data is not None:
    rks, d1s = [*rks, 1.0], [*d1s, next_data - found[0]]
  b_h, phi_k, factorial = np.expm1(hh), np.expm1(hh) / hh - 1, 1
  rows, b = [], []
  for k in range(1, len(rks) + 1):
    rows.append(np.power(rks, k - 1))
    b.append(phi_k * factorial / b_h)
    factorial *= k + 1
    phi_k = phi_k / hh - 1 / factorial
  x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * np.expm1(hh) * found[0]
  if not rks:
    return x
  rho = [0.5] if len(rks) == 1 else np.linalg.solve(np.array(rows), b)
  return x - alpha[i + 1] * b_h * np.tensordot(rho, d1s, 1)


@pytest.mark.parametrize("order", [2, 3])
def test_unipc_is_the_papers_system(order):
  x, found, previous = X, [], None
  for i in range(N):
    data = _data(x, alpha[i], sigma[i])
    if i:
      x = _unipc_update(min(i, order), previous, i - 1, found, data)
    found.insert(0, data)
    previous = x
    x = _unipc_update(min(i + 1, order), x, i, found)
  _equals(samplers.unipc(order), x, atol=1e-10)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_deis_is_eq_15_by_quadrature(order):
  """x' / alpha' = x / alpha + int eps d ratio, Lagrange in log ratio."""
  x, found = X, []
  for i in range(N):
    found.insert(0, _noise(x, alpha[i], sigma[i]))
    k = min(i + 1, order)
    nodes = np.log(RATIOS[i::-1][:k])
    x = alpha[i + 1] / alpha[i] * x
    for j in range(k):
      others = np.delete(nodes, j)
      line = lambda r: np.prod((np.log(r) - others) / (nodes[j] - others))
      c, _ = integrate.quad(line, RATIOS[i], RATIOS[i + 1], epsabs=1e-13)
      x = x + alpha[i + 1] * c * found[j]
  _equals(samplers.deis(order), x, atol=1e-10)


def test_adams_bashforth_has_the_known_coefficients_on_equal_steps():
  known = {
    2: np.array([3, -1]) / 2,
    3: np.array([23, -16, 5]) / 12,
    4: np.array([55, -59, 37, -9]) / 24,
  }
  with jax.enable_x64(True):
    for order, expected in known.items():
      grid = jnp.linspace(0.3, 0.9, 9)
      plan = samplers.adams_bashforth(order).plan(None, grid)
      weights = plan["weights"]
      np.testing.assert_allclose(weights[-1], expected * 0.075, rtol=1e-10)
      np.testing.assert_allclose(weights[0], np.eye(order)[0] * 0.075)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_adams_bashforth_is_exact_for_polynomials_on_any_grid(order):
  with jax.enable_x64(True):
    grid = jnp.array([0.1, 0.15, 0.3, 0.32, 0.5, 0.9])
    plan = samplers.adams_bashforth(order).plan(None, grid)
    for n in range(order - 1, 5):
      nodes = np.asarray(grid)[n::-1][:order]
      for power in range(order):
        whole = lambda t, k=power + 1: t**k / k  # the integral from 0
        exact = whole(grid[n + 1]) - whole(grid[n])
        value = plan["weights"][n] @ nodes**power
        np.testing.assert_allclose(value, exact, rtol=1e-11)


def test_dpmpp_2m_sde_is_eq_19():
  with jax.enable_x64(True):
    draws = mixture_runs.draws(N)
  x, before = X, None
  for i, h in enumerate(STEPS):
    data = _data(x, alpha[i], sigma[i])
    slope = 0 if before is None else (data - before) / (lam[i] - lam[i - 1]) * h
    x = sigma[i + 1] / sigma[i] * np.exp(-h) * x
    x = x + alpha[i + 1] * -np.expm1(-2 * h) * (data + slope / 2)
    x = x + sigma[i + 1] * np.sqrt(-np.expm1(-2 * h)) * draws[i]
    before = data
  _equals(samplers.dpmpp_2m_sde(), x)


def test_seeds_2_is_algorithm_2():
  with jax.enable_x64(True):
    first, second = mixture_runs.stage_draws(N)
  x = X
  for i, h in enumerate(STEPS):
    a, b = _scales(lam[i] + h / 2)
    eps = _noise(x, alpha[i], sigma[i])
    u = a / alpha[i] * x - 2 * b * np.expm1(h / 2) * eps
    u = u + b * np.sqrt(np.expm1(h)) * first[i]
    x = alpha[i + 1] / alpha[i] * x
    x = x - 2 * sigma[i + 1] * np.expm1(h) * _noise(u, a, b)
    carried = np.sqrt(np.exp(2 * h) - np.exp(h)) * first[i]
    x = x + sigma[i + 1] * (carried + np.sqrt(np.expm1(h)) * second[i])
  _equals(samplers.seeds_2(), x)
