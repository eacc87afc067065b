"""Fitted orders of the deterministic solvers: docs/results/orders.md, asserted.

What is measured, and against what, is said in tests/truth/orders.py. A
multistep method claims its own order on a grid with a graded first step, and
what its own start leaves of it on a plain one.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import samplers
from tests.truth import mixture, orders

# Leaves of the plan that all Runge-Kutta methods share and these do not read.
UNREAD = {"euler": {"middle", "end"}, "heun": {"middle"}, "midpoint": {"end"}}
claims = orders.deterministic()
every_solver = pytest.mark.parametrize(
  "claim", claims, ids=[claim.solver.name for claim in claims]
)


@every_solver
def test_fitted_order_against_scipy_on_every_path(claim):
  with jax.enable_x64(True):
    errors, rounding = orders.certify(claim)
  assert set(errors) == set(mixture.NAMES)
  for name, grid in itertools.product(errors, orders.GRIDS):
    value = orders.fitted_order(claim, errors[name][grid])
    least = claim.order - 0.15 if "graded" in grid else claim.started - 0.2
    assert least <= value <= claim.order + 0.2, (name, grid, value)
  assert max(rounding.values()) < 1e-5, rounding


@every_solver
def test_one_percent_in_any_coefficient_is_seen(claim):
  """The order falls whichever number of the plan is 1 % off."""
  solver, order = claim.solver, claim.order
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
    ratios = orders.stacked([orders.ratios(n, graded=True) for n in few])
    grids = path.time(ratios)
    field = mixture.field(path)

    def one(scales, times, x):
      solver, key = orders.padded(broken(scales)), jax.random.key(0)
      return samplers.integrate(solver, field, x, times, key)

    run = jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None))
    plan = jax.eval_shape(lambda times: solver.plan(path, times), grids[1])
    size = len(jax.tree.leaves(plan))
    scales = 1 + 0.01 * np.eye(size + 1)[:, 1:]
    many = jax.jit(jax.vmap(run, (0, None, None)))
    values = many(scales, grids, jnp.asarray(start[:3]))
  errors = np.sqrt(np.mean((np.asarray(values) - end[:3]) ** 2, (2, 3)))
  whole, *rest = (mixture.order(few, e) for e in errors)
  assert whole >= order - 0.2
  for name, value in zip(names, rest, strict=True):
    if name not in UNREAD.get(solver.name, ()):
      assert value < order - 0.15, (name, value)
