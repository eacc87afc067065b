"""Multistep methods: the polynomial through the estimates of past steps.

One evaluation per step, at its start. With the forms and weights of forms.py,

  x' = keep x + gain sum_j w_j f_{n-j},   j = 0 ... order - 1

The first steps use the nodes that exist, so a method starts at lower order, as
published: on a grid whose first step is as long as the others, these starting
errors limit the order (docs/results/orders.md).

DPM-Solver++ and UniPC have a published formula for steps of two nodes, which
does not integrate their line exactly. On data and on noise, with h the length
of the step on the clock log(alpha / sigma) and h_prev that of the step before,

  x' = sigma'/sigma x + alpha' ((1 - exp(-h)) data
                                + B h/(2 h_prev) (data - previous))
  x' = alpha'/alpha x - sigma' ((exp(h) - 1) noise
                                + B h/(2 h_prev) (noise - previous))

where B is B_1 = h, or B_2, the first factor: 1 - exp(-h) or exp(h) - 1. With
B_2, as in DPM-Solver++, this is the line at the middle of the step. (UniPC's
first corrector has B/2 (data' - data), with data' at the end of the step.) With
more nodes B cancels, and the polynomial is integrated exactly.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgen.samplers import driver, exponential, forms


def past_nodes(num_steps: int, order: int, ahead: int = 0) -> np.ndarray:
  """Indices of the nodes of each step into the times, [num_steps, order].

  n + ahead, n + ahead - 1, ..., negative where there is no such time.
  """
  return np.arange(num_steps)[:, None] + ahead - np.arange(order)


def table(
  clock: Float[Array, "times"],
  rate: float,
  nodes: np.ndarray,
  slope: Callable | None = None,
) -> Float[Array, "steps order"]:
  """The weights of every step, 0 for missing or repeated nodes.

  Args:
    clock: the times on the form's clock, [N + 1].
    rate: rate of the form.
    nodes: indices from `past_nodes`, [N, order].
    slope: None integrates every polynomial exactly. Otherwise, steps of two
      nodes integrate their line f as published,

        total f(start) + slope(h, total) (f(middle) - f(start)),

      with h the step's length and total the integral of the exponential.
  """

  def of_step(start, end, at, known):
    found = forms.weights(at, start, end, rate, known)
    if slope is None:
      return found
    line = forms.lagrange(at, (start + end) / 2, known)
    constant = forms.lagrange(at, start, known)
    total = found.sum()  # the integral of the exponential
    two = constant * total + (line - constant) * slope(end - start, total)
    return jnp.where(forms.used(at, known).sum() == 2, two, found)

  at = clock[np.maximum(nodes, 0)]
  known = jnp.asarray(nodes >= 0)
  return jax.vmap(of_step)(clock[:-1], clock[1:], at, known)


def _midpoint(h, total):
  """The slope of DPM-Solver++, and of UniPC with B_2: total f(middle)."""
  return total


def _multistep(name, form, order, slope=None):
  """A multistep method on the nodes of the last `order` steps."""

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
  """Adams-Bashforth on the velocity, for any grid.

  Args:
    order: 2 to 4.

  Reference: Hairer, Norsett and Wanner 1993, Solving Ordinary Differential
  Equations I, section III.5 (variable steps).

  Raises:
    ValueError: order is out of range.
  """
  _check_order("adams_bashforth", order, 2, 4)
  name = f"adams_bashforth({order})"
  return _multistep(name, forms.velocity(), order)


def deis(order: int) -> driver.Solver:
  """DEIS on the noise, its polynomial in log(alpha / sigma) integrated exactly.

  Args:
    order: 2 to 4 (1 would be ddim).

  Reference: Zhang and Chen 2023, arXiv:2204.13902, eq. 14-15, with the
  polynomial on the clock of DPM-Solver.

  Raises:
    ValueError: order is out of range.
  """
  _check_order("deis", order, 2, 4)
  return _multistep(f"deis({order})", forms.noise(), order)


def dpmpp_2m() -> driver.Solver:
  """DPM-Solver++ (2M): the line through the data of two steps.

    x' = keep x + alpha' (1 - exp(-h)) (data + h/(2 h_prev) (data - previous)),
    keep = sigma'/sigma,   h = log(ratio/ratio')

  Reference: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
  """
  return _multistep("dpmpp_2m", forms.data(), 2, _midpoint)


def dpmpp_3m() -> driver.Solver:
  """DPM-Solver++ (3M): the parabola through the data of three steps.

  It is integrated exactly; the second step, of two nodes, is that of dpmpp_2m.

  Reference: Lu et al. 2022, arXiv:2211.01095, section 4.2 (with 2 phi_3 on
  the second divided difference, which the third order needs).
  """
  return _multistep("dpmpp_3m", forms.data(), 3, _midpoint)


def dpmpp_2m_sde(eta: float = 1.0) -> driver.Solver:
  """DPM-Solver++ (2M) for the reverse-time SDE.

    x' = exp(-eta h) sigma'/sigma x
         + alpha' (1 - exp(-(1 + eta) h))
           (data + h/(2 h_prev) (data - previous))
         + sigma' sqrt(1 - exp(-2 eta h)) z

  Args:
    eta: amount of noise; 0 is dpmpp_2m, 1 the SDE of `ancestral`.

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
  """UniPC: a multistep predictor, corrected by the evaluation that follows it.

  The evaluation at a predicted state is a further node of the step that led to
  it, and also a node of the next step: one evaluation per step, order + 1. The
  last state is a prediction. The module has the formulas of steps of two nodes.

  Args:
    order: order of the predictor, 2 to 5; on data, 2 and 3 predict as dpmpp_2m
      and dpmpp_3m.
    noise: whether to integrate the noise estimate instead of the data.
    b1: whether to use B_1 instead of B_2 in steps of two nodes.

  Reference: Zhao et al. 2023, arXiv:2302.04867, algorithms 1, 2, section 3.

  Raises:
    ValueError: order is out of range.
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

    # Step n first corrects the state that step n - 1 reached, except step 0.
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
