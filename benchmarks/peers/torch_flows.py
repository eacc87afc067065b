"""Log-likelihoods by continuous flows of PyTorch libraries, for timing.

Every call solves dx/dt = v(x, t) from 0 to 1 with the network's weights and
returns log p of the batch, [B]. Libraries take points as vectors, so images are
flattened here and the network restores their shape: without this,
flow_matching's exact divergence fails on images.
"""

import importlib.util

import torch
from torch import nn

from benchmarks.peers import torch_networks

STAGES = 7  # evaluations of one Dormand-Prince step in zuko


def prior(x: torch.Tensor) -> torch.Tensor:
  """log N(x; 0, I) of a batch of vectors, [B, D] -> [B]."""
  return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)


def calls(model, params, x, trace, num_steps):
  """{library: (() -> log p of the batch, evaluations)}, and its forward.

  Libraries that are not installed are left out.

  Args:
    model: a U-Net or an MLP of jaxgen.
    params: its parameters.
    x: the batch, [B, *D], NumPy.
    trace: "exact" or "one probe".
    num_steps: number of midpoint steps.

  Returns:
    The calls, and () -> the network's output on the batch without gradients.
  """
  net = torch_networks.twin(model, params, x.shape)
  size = len(x), *x.shape[:0:-1]

  def velocity(y, t):
    # Of [B, C, H, W], and C = 1: as [B, H, W, C], PyTorch would compute in the
    # format channels_last, for which zuko's batched products fail.
    y = y.reshape(size).moveaxis(1, -1) if x.ndim > 2 else y
    return net(y, t).flatten(1)

  start = torch.from_numpy(x).flatten(1)
  makers = dict(flow_matching=_flow_matching, torchdyn=_torchdyn, zuko=_zuko)
  found = {
    name: make(velocity, start, trace == "exact", num_steps)
    for name, make in makers.items()
    if importlib.util.find_spec(name) is not None
  }

  def forward():
    with torch.no_grad():
      return velocity(start, torch.tensor(0.5))

  return found, forward


def _flow_matching(velocity, x, exact, num_steps):
  """compute_likelihood, whose time runs from 1 to 0."""
  from flow_matching import solver

  reverse = solver.ODESolver(lambda x, t: -velocity(x, 1 - t))
  how = dict(step_size=1 / num_steps, method="midpoint")

  def run():
    _, log_prob = reverse.compute_likelihood(
      x.clone(), prior, exact_divergence=exact, **how
    )
    return log_prob

  return run, 2 * num_steps


def _torchdyn(velocity, x, exact, num_steps):
  """NeuralODE of a CNF, whose first coordinate is -int div v dt."""
  from torchdyn import core
  from torchdyn.models import cnf

  class Net(nn.Module):
    """v of x alone: torchdyn sets the attribute t."""

    t = torch.tensor(0.0)

    def forward(self, x):
      return velocity(x, self.t)

  normal = torch.distributions.Independent(
    torch.distributions.Normal(torch.zeros(x.shape[1]), 1.0), 1
  )
  kind = cnf.autograd_trace if exact else cnf.hutch_trace
  flow = cnf.CNF(Net(), kind, noise_dist=None if exact else normal)
  solve = core.NeuralODE(flow, solver="midpoint", sensitivity="autograd")
  times = torch.linspace(0.0, 1.0, num_steps + 1)

  def run():
    start = torch.cat([torch.zeros(len(x), 1), x], 1)
    with torch.no_grad():
      end = solve.trajectory(start, times)[-1]
    return prior(end[:, 1:]) - end[:, 0]

  return run, 2 * num_steps


def _zuko(velocity, x, exact, num_steps):
  """FreeFormJacobianTransform, whose solver is adaptive.

  The tolerance is so large that it always accepts its first step, of 7
  evaluations, from 0 to 1.
  """
  del num_steps
  from zuko import transforms

  free_form = transforms.FreeFormJacobianTransform(
    lambda t, x: velocity(x, t), atol=1e9, exact=exact
  )

  def run():
    with torch.no_grad():
      end, log_det = free_form.call_and_ladj(x)
    return prior(end) + log_det

  return run, STAGES
