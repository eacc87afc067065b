"""One batch of samples from a cold start, which benchmarks.peers.peers times.

  python -m benchmarks.peers.first_sample LIBRARY

17 Heun steps and the denoise (NFE 35), 64 points on the plane, an MLP of three
hidden layers of 128 in the library's own arrays. Nothing is imported that the
library does not need.
"""

import itertools
import math
import sys

import numpy as np

NUM_STEPS = 17
WIDTHS = (3, 128, 128, 128, 2)


def weights():
  """The matrices of the MLP and the 64 initial points, in float32."""
  rng = np.random.default_rng(0)
  pairs = itertools.pairwise(WIDTHS)
  matrices = [rng.standard_normal(p) / math.sqrt(p[0]) for p in pairs]
  x = 80 * rng.standard_normal((64, 2))
  return [m.astype("float32") for m in matrices], x.astype("float32")


def preconditioned(net, sigma_data, log, sqrt):
  """EDM's denoiser: data = c_skip x + c_out net(c_in x, log(sigma) / 4)."""

  def denoise(x, sigma):
    total = sigma**2 + sigma_data**2
    raw = net(x / sqrt(total), log(sigma) / 4)
    return sigma_data**2 / total * x + sigma * sigma_data / sqrt(total) * raw

  return denoise


def jaxgen():
  """jaxgen's Heun."""
  import jax

  from jaxgen import fields, paths, predictions, samplers

  path, (denoise, x) = paths.edm(), jax_denoiser()
  field = fields.from_prediction(denoise, path, predictions.data)
  times = samplers.grids.karras(path, NUM_STEPS)

  def sample(x):
    key = jax.random.key(0)
    x = samplers.integrate(samplers.heun(), field, x, times, key)
    return field(x, times[-1]).data

  return jax.jit(jax.vmap(sample))(x)


def diffrax():
  """diffrax's Heun at the same times."""
  import diffrax
  import jax

  denoise, x = jax_denoiser()
  sigmas = karras().astype("float32")

  def sample(x):
    slope = lambda sigma, x, _: (x - denoise(x, sigma)) / sigma
    steps = diffrax.StepTo(sigmas)
    term, ends = diffrax.ODETerm(slope), (sigmas[0], sigmas[-1])
    x = diffrax.diffeqsolve(
      term, diffrax.Heun(), *ends, None, x, stepsize_controller=steps
    ).ys[0]
    return denoise(x, sigmas[-1])

  return jax.jit(jax.vmap(sample))(x)


def jax_denoiser():
  """(EDM's denoiser of one point, initial points)."""
  import jax
  import jax.numpy as jnp

  (*hidden, last), x = weights()

  def net(x, level):
    h = jnp.append(x, level)
    for matrix in hidden:
      h = jax.nn.silu(h @ matrix)
    return h @ last

  return preconditioned(net, 0.5, jnp.log, jnp.sqrt), x


def torch_library(library, name):
  """A sampler of benchmarks/peers/torch_schedulers.py."""
  import torch

  from benchmarks.peers import torch_schedulers

  matrices, x = weights()
  *hidden, last = map(torch.from_numpy, matrices)

  def net(x, level):
    h = torch.cat([x, level.expand(len(x), 1)], 1).float()
    for matrix in hidden:
      h = torch.nn.functional.silu(h @ matrix)
    return h @ last

  denoise = preconditioned(net, 0.5, torch.log, torch.sqrt)
  table = getattr(torch_schedulers, f"{library}_samplers")()
  sigmas = torch.from_numpy(karras()).float()
  with torch.no_grad():
    return table[name][0](denoise, torch.from_numpy(x), sigmas)


def karras():
  """The noise levels of EDM, from 80 to .002 with rho = 7."""
  return np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), NUM_STEPS + 1) ** 7


def main(library):
  """Samples, and prints the sum of the squares."""
  if library in ("jaxgen", "diffrax"):
    data = dict(jaxgen=jaxgen, diffrax=diffrax)[library]()
  else:
    heun = dict(
      diffusers="HeunDiscrete", k_diffusion="heun", torchdiffeq="heun2"
    )
    data = torch_library(library, heun[library])
  print(float((np.asarray(data) ** 2).sum()))


if __name__ == "__main__":
  main(sys.argv[1])
