"""The deterministic samplers of PyTorch libraries, on any grid of noise levels.

Each library gives {name: (sample, evaluations a step, evaluations besides)}:

  sample(denoise, x, sigmas) -> data

with denoise(x [B, ...], sigma []) -> data in the variance-exploding frame
(x = data + sigma noise), x the state at sigmas[0] and data the denoised state
at sigmas[-1]. What a library has no argument for is set on its scheduler
between set_timesteps and the first step: the noise levels, in float64. Several
schedulers keep x in float32, whatever its type is.
"""

import functools
import importlib.util
import sys
import types

import torch

# A scheduler's state is x / scale, by frame.
SCALES = {
  "ve": lambda sigma: torch.ones_like(sigma),
  "vp": lambda sigma: (1 + sigma**2).sqrt(),
  "flow": lambda sigma: 1 + sigma,
}


def _edm(data, x, sigma, scale):
  """The raw output of EDM's network at sigma_data = 1/2."""
  total = sigma**2 + 0.25
  return (data - 0.25 / total * x) * total.sqrt() / (sigma / 2)


# What a scheduler takes for the model's output.
OUTPUTS = {
  "sample": lambda data, x, sigma, scale: data,
  "epsilon": lambda data, x, sigma, scale: (x - data) / sigma,
  "edm": _edm,
  "velocity": lambda data, x, sigma, scale: (x - data) / sigma - data,
  "ipndm": lambda data, x, sigma, scale: (
    (x - data) / sigma * scale - sigma / scale * x
  ),
}


def twice(levels):
  """l0, l1, l1, l2, l2, ...: what Heun's scheduler goes through."""
  return torch.cat([levels[:1], levels[1:].repeat_interleave(2)])


def parts(levels, num):
  """Every step cut in `num`, evenly in log sigma."""
  share = torch.arange(num, dtype=levels.dtype) / num
  log = levels.log()
  inner = log[:-1, None] + share * log.diff()[:, None]
  return torch.cat([inner.flatten().exp(), levels[-1:]])


def _scheduler(make, frame, output="sample", steps=lambda s: s, zero=False):
  """A sampler from a diffusers scheduler, of a frame and an output as above.

  `steps` maps the levels to one more than the calls of scheduler.step. `zero`
  leaves the denoise to the scheduler: a last step to sigma = 0, its default.
  """

  def sample(denoise, x, sigmas):
    levels = torch.cat([sigmas, torch.zeros_like(sigmas[:1])])
    levels = steps(levels if zero else sigmas)
    scheduler = make()
    scheduler.set_timesteps(len(levels) - 1)
    at = levels
    scheduler.sigmas = levels / (1 + levels) if frame == "flow" else levels
    if hasattr(scheduler, "sigmas_interpol"):  # KDPM2's middles, said twice
      at = parts(levels[::2], 2)
      middles = at[1::2].repeat_interleave(2)
      scheduler.sigmas_interpol = torch.cat([at[:1], middles])
    if output == "ipndm":
      scheduler.alphas = 1 / SCALES["vp"](levels)
      scheduler.betas = levels * scheduler.alphas
    scheduler.timesteps = torch.arange(len(levels) - 1, dtype=torch.float64)
    scheduler.set_begin_index(0)
    scales = SCALES[frame]
    y = x / scales(at[0])
    for i, t in enumerate(scheduler.timesteps):
      if hasattr(scheduler, "scale_model_input"):
        scheduler.scale_model_input(y, t)
      sigma, scale = at[i], scales(at[i])
      x = y * scale
      value = OUTPUTS[output](denoise(x, sigma), x, sigma, scale)
      y = scheduler.step(value, t, y, return_dict=False)[0]
    return y if zero else denoise(y * scales(levels[-1]), levels[-1])

  return sample


def _discrete(make):
  """A sampler from a diffusers scheduler whose times index a table."""

  def sample(denoise, x, sigmas):
    scheduler, num = make(num_train_timesteps=len(sigmas)), len(sigmas)
    scheduler.set_timesteps(num)
    scheduler.alphas_cumprod = 1 / (1 + sigmas.flip(0) ** 2)
    y = x / SCALES["vp"](sigmas[0])
    for t in scheduler.timesteps:
      sigma = sigmas[num - 1 - t]
      x = y * SCALES["vp"](sigma)
      value = (x - denoise(x, sigma)) / sigma
      y = scheduler.step(value, int(t), y, return_dict=False)[0]
    return y

  return sample


def _row(maker, frame="vp", output="sample", calls=1, **options):
  """(sampler, evaluations a step, 0), from the name of a diffusers class."""
  import diffusers

  parts_of = {k: options.pop(k) for k in ("steps", "zero") if k in options}
  if output == "sample":
    options["prediction_type"] = "sample"
  make = lambda: getattr(diffusers, f"{maker}Scheduler")(**options)
  return _scheduler(make, frame, output, **parts_of), calls, 0


def diffusers_samplers():
  """The schedulers of diffusers; `full` has lower_order_final off.

  Raises:
    ImportError: diffusers is not installed.
  """
  import diffusers

  diffusers.utils.logging.set_verbosity_error()
  two = dict(calls=2, steps=twice)
  options = dict(set_alpha_to_one=True, steps_offset=0)
  ddim = functools.partial(
    diffusers.DDIMScheduler, clip_sample=False, **options
  )
  pndm = functools.partial(
    diffusers.PNDMScheduler, skip_prk_steps=True, **options
  )
  flow = "flow", "velocity"
  found = {
    "EulerDiscrete": _row("EulerDiscrete", "ve"),
    "EDMEuler": _row("EDMEuler", "ve", "edm"),
    "DDIM": (_discrete(ddim), 1, 0),
    "PNDM": (_discrete(pndm), 1, 1),
    "FlowMatchEuler": _row("FlowMatchEulerDiscrete", *flow),
    "LMSDiscrete": _row("LMSDiscrete", "ve"),
    "IPNDM": _row("IPNDM", "vp", "ipndm"),
    "HeunDiscrete": _row("HeunDiscrete", "ve", clip_sample=False, **two),
    "FlowMatchHeun": _row("FlowMatchHeunDiscrete", *flow, **two),
    "KDPM2Discrete": _row("KDPM2Discrete", "ve", "epsilon", **two),
  }
  for order in (2, 3):
    found |= _of_order(order)
  for order in (2, 3, 4):
    found |= _with_corrector(order)
  return found


FULL = dict(lower_order_final=False)
LAST = dict(FULL, final_sigmas_type="sigma_min")
HEUN, NOISE = dict(solver_type="heun"), dict(algorithm_type="dpmsolver")


def _of_order(p):
  """The rows of a solver_order."""
  order = dict(solver_order=p)
  multi = functools.partial(_row, "DPMSolverMultistep", **order)
  steps = functools.partial(parts, num=p)
  options = dict(order, **LAST, calls=p, steps=steps)
  single = functools.partial(_row, "DPMSolverSinglestep", **options)
  edm = "EDMDPMSolverMultistep", "ve", "edm"
  return {
    f"DPMSolverMultistep {p}": multi(zero=True),
    f"DPMSolverMultistep {p} full": multi(**LAST),
    f"DPMSolverMultistep {p} full, heun": multi(**LAST, **HEUN),
    f"DPMSolverMultistep {p} full, noise": multi(**LAST, **NOISE),
    f"EDMDPMSolverMultistep {p}": _row(*edm, **order, zero=True),
    f"DEIS {p}": _row("DEISMultistep", **order),
    f"DEIS {p} full": _row("DEISMultistep", **order, **FULL),
    f"DPMSolverSinglestep {p}": single(),
    f"DPMSolverSinglestep {p}, heun": single(**HEUN),
    f"DPMSolverSinglestep {p}, noise": single(**NOISE),
    f"DPMSolverSinglestep {p}, heun, noise": single(**HEUN, **NOISE),
  }


def _with_corrector(p):
  """The rows of a solver_order, of predictors with a corrector."""
  unipc = functools.partial(_row, "UniPCMultistep", solver_order=p)
  orders = dict(predictor_order=p, corrector_order=min(p + 1, 4))
  still = dict(FULL, tau_func=lambda t: 0)
  return {
    f"UniPC {p}": unipc(zero=True),
    f"UniPC {p} full": unipc(**LAST),
    f"UniPC {p} full, bh1": unipc(**LAST, solver_type="bh1"),
    f"UniPC {p} full, noise": unipc(**LAST, predict_x0=False),
    f"SASolver {p}": _row("SASolver", **still, **orders),
  }


def _k_diffusion():
  """k_diffusion.sampling without the package's own import, which needs more.

  Of the rest of the package, the samplers use append_dims only.

  Raises:
    ImportError: k-diffusion, or what its samplers import, is not installed.
  """
  if "k_diffusion.sampling" not in sys.modules:
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None:
      raise ImportError("No module named 'k_diffusion'")
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    package.utils = types.ModuleType("k_diffusion.utils")
    package.utils.append_dims = lambda v, num: v.view(-1, *[1] * (num - 1))
    sys.modules["k_diffusion"] = package
    sys.modules["k_diffusion.utils"] = package.utils
  return importlib.import_module("k_diffusion.sampling")


def k_diffusion_samplers():
  """The samplers of k-diffusion, the stochastic ones with eta = 0."""
  library, found = _k_diffusion(), {}

  def add(name, calls, **options):
    def sample(denoise, x, sigmas):
      model = lambda x, sigma: denoise(x, sigma[0])
      run = getattr(library, f"sample_{name}")
      x = run(model, x, sigmas, disable=True, **options)
      return denoise(x, sigmas[-1])

    found[name] = sample, calls, 0

  still = dict(eta=0.0, noise_sampler=lambda *_: 0.0)
  for name in ("euler", "lms", "dpmpp_2m"):
    add(name, 1)
  for name in ("heun", "dpm_2"):
    add(name, 2)
  add("dpmpp_2s_ancestral", 2, **still)
  add("dpmpp_sde", 2, **still)
  add("dpmpp_2m_sde", 1, solver_type="heun", **still)
  add("dpmpp_3m_sde", 1, **still)
  return found


def torchdiffeq_samplers():
  """The solvers of torchdiffeq on fixed grids, dx/dsigma = (x - data) / sigma.

  Raises:
    ImportError: torchdiffeq is not installed.
  """
  import torchdiffeq

  def make(method):
    def sample(denoise, x, sigmas):
      slope = lambda sigma, x: (x - denoise(x, sigma)) / sigma
      x = torchdiffeq.odeint(slope, x, sigmas, method=method)[-1]
      return denoise(x, sigmas[-1])

    return sample

  calls = dict(euler=1, midpoint=2, heun2=2, heun3=3, rk4=4)
  return {name: (make(name), num, 0) for name, num in calls.items()}


def dopri5(tolerance):
  """dopri5 of torchdiffeq, an adaptive solver, on dx/dlog(sigma) = x - data.

  In sigma it would step past the end, below zero, and interpolate.
  """
  import torchdiffeq

  options = dict(rtol=tolerance, atol=tolerance, method="dopri5")

  def sample(denoise, x, sigmas):
    slope = lambda log_sigma, x: x - denoise(x, log_sigma.exp())
    ends = sigmas[[0, -1]].log()
    x = torchdiffeq.odeint(slope, x, ends, **options)[-1]
    return denoise(x, sigmas[-1])

  return sample
