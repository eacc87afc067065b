"""Fitted orders of the deterministic solvers: docs/results/orders.md, asserted.

What is measured, and against what, is said in benchmarks/orders.py. A multistep
method claims its own order on a grid with a graded first step, and what its own
start leaves of it on a plain one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import mixture, orders
from jaxgen import samplers

# Leaves of the plan that all Runge-Kutta methods share and these do not read.
UNREAD = {"euler": {"middle", "end"}, "heun": {"middle"}, "midpoint": {"end"}}
claims = orders.deterministic()
every_solver = pytest.mark.parametrize(
  "claim", claims, ids=[claim.solver.name for claim in claims]
)


@pytest.mark.parametrize("name", mixture.NAMES)
def test_fitted_order_against_scipy(name):
  with jax.enable_x64(True):
    found = orders.errors(name, claims)
  for (solver, order, started), (grid, (_, graded)) in (
    (claim, grid) for claim in claims for grid in orders.GRIDS.items()
  ):
    value = mixture.order(orders.NUM_STEPS, found[solver.name, grid])
    case = (solver.name, grid, value)
    if graded:
      assert order - 0.15 <= value <= order + 0.15, case
    else:
      assert started - 0.2 <= value <= order + 0.15, case


@every_solver
def test_one_percent_in_any_coefficient_is_seen(claim):
  """The order falls whichever number of the plan is 1 % off."""
  solver, order, _ = claim
  names, few = [], (192, 384)

  def broken(scales):
    def plan(path, times):
      leaves, tree = jax.tree.flatten_with_path(solver.plan(path, times))
      names[:] = [path[-1].key for path, _ in leaves]
      pairs = zip(leaves, scales, strict=False)
      return jax.tree.unflatten(tree, [leaf * s for (_, leaf), s in pairs])

    return solver._replace(plan=plan)

  with jax.enable_x64(True):
    path = mixture.jaxgen_path("vp")
    start, end = orders.truth("vp", encode=False)
    grids = [orders.log_grid(path, n, graded=True) for n in few]
    pad = len(grids[-1]) - len(grids[0])
    grids = np.stack([np.pad(grids[0], (0, pad), mode="edge"), grids[1]])
    field = mixture.field(path)

    def one(scales, times, x):
      solver, key = orders.padded(broken(scales)), jax.random.key(0)
      return samplers.integrate(solver, field, x, times, key)

    run = jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None))
    size = len(jax.tree.leaves(solver.plan(path, jnp.asarray(grids[1]))))
    scales = 1 + 0.01 * jnp.eye(size + 1)[:, 1:]
    values = jax.jit(jax.vmap(run, (0, None, None)))(
      scales, jnp.asarray(grids), jnp.asarray(start[:3])
    )
  errors = np.sqrt(np.mean((np.asarray(values) - end[:3]) ** 2, (2, 3)))
  whole, *rest = (mixture.order(few, e) for e in errors)
  assert whole >= order - 0.15
  for name, value in zip(names, rest, strict=True):
    if name not in UNREAD.get(solver.name, ()):
      assert value < order - 0.15, (name, value)


@pytest.mark.parametrize("name", ["edm", "linear", "vp"])
def test_float32_loses_only_rounding(name):
  """256 steps, noise ratios 80 to .002."""
  with jax.enable_x64(True):
    found = orders.rounding(name, claims)
  assert max(found.values()) < 1e-5, found
