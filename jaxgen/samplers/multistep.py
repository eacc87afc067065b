"""Multistep methods: the polynomial through the estimates of past steps.

One evaluation a step, of the estimate at its start; with the forms and the
table of weights of forms.py,

  x' = keep x + gain sum_j w_j f_{n-j},   j = 0 ... order - 1

The first steps take the nodes that there are, so a method starts itself at
lower order, as published: the errors of the start limit the order on a grid
whose first step is as long as the others (docs/results/orders.md).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgen.samplers import driver, exponential, forms


def past_nodes(num_steps: int, order: int, ahead: int = 0) -> np.ndarray:
  """Indices into the times of the nodes of each step, [num_steps, order].

  n + ahead, n + ahead - 1, ..., negative where there is none.
  """
  return np.arange(num_steps)[:, None] + ahead - np.arange(order)


def table(
  clock: Float[Array, "times"],
  rate: float,
  nodes: np.ndarray,
  slope: Callable | None = None,
) -> Float[Array, "steps order"]:
  """The weights of every step, 0 for nodes before the first or repeated.

  Args:
    clock: the times on the form's clock, [N + 1].
    rate: of the form.
    nodes: indices from `past_nodes`, [N, order].
    slope: the published shortcut where a step has two nodes: the line's slope
      counts as at the middle of the step, times slope(h, integral of the
      exponential). None for its integral.
  """

  def of_step(start, end, at, known):
    found = forms.weights(at, start, end, rate, known)
    if slope is None:
      return found
    line = forms.lagrange(at, (start + end) / 2, known)
    constant = forms.lagrange(at, start, known)
    total = found.sum()  # that of the exponential alone
    two = constant * total + (line - constant) * slope(end - start, total)
    return jnp.where(forms.used(at, known).sum() == 2, two, found)

  at = clock[np.maximum(nodes, 0)]
  known = jnp.asarray(nodes >= 0)
  return jax.vmap(of_step)(clock[:-1], clock[1:], at, known)


def _midpoint(h, total):
  """Of DPM-Solver++ and UniPC's B_2: the line at the middle of the step."""
  return total


def _multistep(name, form, order, slope=None):
  """`order` nodes behind each step."""

  def plan(path, times):
    form.check(name, times)
    t, end = times[:-1], times[1:]
    keep, gain = form.scales(path, t, end)
    nodes = past_nodes(len(t), order)
    found = table(form.clock(path, times), form.rate, nodes, slope)
    c = dict(t=t, keep=keep, weights=gain[:, None] * found)
    if form.std is not None:
      c["std"] = form.std(path, t, end)
    return c

  def init(field, key, x, times):
    return (jnp.zeros_like(x),) * (order - 1)

  def step(field, key, x, c, past):
    known = (getattr(field(x, c["t"]), form.estimate), *past)
    x = c["keep"] * x + forms.combine(c["weights"], known)
    return driver.add_noise(key, x, c), known[:-1]

  return driver.Solver(name, plan, init, step, lambda n: n, form.needs)


def _check_order(name, order, low, high):
  if order not in range(low, high + 1):
    raise ValueError(f"{name}: expected order {low} to {high}, got {order}")


def adams_bashforth(order: int) -> driver.Solver:
  """Of the velocity, on any grid.

  Args:
    order: 2 to 4.

  Reference: Hairer, Norsett and Wanner 1993, Solving Ordinary Differential
  Equations I, section III.5 (variable steps).

  Raises:
    ValueError: another order.
  """
  _check_order("adams_bashforth", order, 2, 4)
  name = f"adams_bashforth({order})"
  return _multistep(name, forms.velocity(), order)


def deis(order: int) -> driver.Solver:
  """Of the noise, its polynomial in log(alpha / sigma) integrated exactly.

  Args:
    order: 2 to 4 (1 would be ddim).

  Reference: Zhang and Chen 2023, arXiv:2204.13902, eq. 14-15, with the
  polynomial on the clock of DPM-Solver.

  Raises:
    ValueError: another order.
  """
  _check_order("deis", order, 2, 4)
  return _multistep(f"deis({order})", forms.noise(), order)


def dpmpp_2m() -> driver.Solver:
  """DPM-Solver++ (2M): data of two steps, taken at the middle of the next.

    x' = keep x + alpha' (1 - exp(-h)) (data + h/(2 h_prev) (data - previous))

  Reference: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
  """
  return _multistep("dpmpp_2m", forms.data(), 2, _midpoint)


def dpmpp_3m() -> driver.Solver:
  """DPM-Solver++ (3M): the parabola through the data of three steps.

  Reference: Lu et al. 2022, arXiv:2211.01095, section 4.2 (with 2 phi_3 on
  the second divided difference, which the third order needs).
  """
  return _multistep("dpmpp_3m", forms.data(), 3, _midpoint)


def dpmpp_2m_sde(eta: float = 1.0) -> driver.Solver:
  """dpmpp_2m of the reverse-time SDE.

  Args:
    eta: how much noise; 0 is dpmpp_2m, 1 the SDE of `ancestral`.

  Reference: Lu et al. 2022, arXiv:2211.01095, eq. 19.

  Raises:
    ValueError: eta is negative, or times do not decrease.
  """
  exponential.check_eta("dpmpp_2m_sde", eta)
  form = forms.data(eta)
  return _multistep("dpmpp_2m_sde", form, 2, _midpoint)


def unipc(
  order: int, *, noise: bool = False, b1: bool = False
) -> driver.Solver:
  """UniPC: a multistep prediction, corrected by the evaluation that follows it.

  The evaluation at a predicted state is a further node of the step that led
  there, and serves the next step too: one evaluation a step, order + 1. The
  last state is a prediction. With data the prediction is that of dpmpp_2m or
  dpmpp_3m.

  Args:
    order: of the prediction, 2 to 5.
    noise: integrate the noise, as the paper's first form; else the data.
    b1: B_1(h) = h instead of B_2(h) = exp(h) - 1, in steps of two nodes (with
      more, B drops out).

  Reference: Zhao et al. 2023, arXiv:2302.04867, algorithms 1, 2, section 3.

  Raises:
    ValueError: another order.
  """
  _check_order("unipc", order, 2, 5)
  form = forms.noise() if noise else forms.data()
  settings = f"{order}" + ", noise" * noise + ", b1" * b1
  slope = (lambda h, total: h) if b1 else _midpoint

  def plan(path, times):
    clock = form.clock(path, times)
    keep, gain = form.scales(path, times[:-1], times[1:])

    def weights(num_nodes, ahead):
      nodes = past_nodes(len(keep), num_nodes, ahead)
      return gain[:, None] * table(clock, form.rate, nodes, slope)

    # Step n corrects the state that step n - 1 led to; the first corrects none.
    before = lambda rows: jnp.roll(rows, 1, 0).at[0].set(0)
    return dict(
      t=times[:-1],
      keep=keep,
      weights=weights(order, 0),
      first=jnp.zeros_like(keep).at[0].set(1),
      keep_before=before(keep),
      corrector=before(weights(order + 1, 1)),
    )

  def init(field, key, x, times):
    return jnp.zeros_like(x), (jnp.zeros_like(x),) * order

  def step(field, key, x, c, memory):
    before, past = memory
    known = (getattr(field(x, c["t"]), form.estimate), *past)
    x = c["first"] * x + c["keep_before"] * before
    x = x + forms.combine(c["corrector"], known)
    ahead = forms.combine(c["weights"], known[:-1])
    return c["keep"] * x + ahead, (x, known[:-1])

  return driver.Solver(
    f"unipc({settings})", plan, init, step, lambda n: n, form.needs
  )
