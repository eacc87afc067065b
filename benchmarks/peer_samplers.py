"""The samplers that peers.py compares, ours and those of JAX libraries.

Each library gives {name: (sample, evaluations a step, evaluations besides)}:

  sample(denoise, x, sigmas) -> data

for one example, in the frame of edm: denoise(x [*D], sigma []), x the state at
sigmas[0]; those of PyTorch (torch_schedulers.py) for a batch.
"""

import importlib

import jax

from jaxgen import fields, paths, predictions, samplers

JAX = ("jaxgen", "diffrax")


def ours():
  """Every deterministic solver of jaxgen; of velocities, on two paths."""
  found = {}

  def add(solver, path_name="edm"):
    path = getattr(paths, path_name)()

    def sample(denoise, x, sigmas):
      def predict_fn(x, t):
        return denoise(x / path.alpha(t), path.ratio(t))

      field = fields.from_prediction(predict_fn, path, predictions.data)
      times, key = path.time(sigmas), jax.random.key(0)
      x = x * path.alpha(times[0])
      x = samplers.integrate(solver, field, x, times, key)
      return field(x, times[-1]).data

    name = solver.name if path_name == "edm" else f"{solver.name}, {path_name}"
    found[name] = sample, solver.num_calls(1), 0

  for method in ("ddim", "dpm_solver_2s", "dpm_solver_3s"):
    add(getattr(samplers, method)())
  for method in ("dpmpp_2s", "dpmpp_2m", "dpmpp_3m"):
    add(getattr(samplers, method)())
  for order in (2, 3, 4):
    add(samplers.deis(order))
  for order in (2, 3, 4, 5):
    add(samplers.unipc(order))
    add(samplers.unipc(order, noise=True))
  add(samplers.unipc(2, b1=True))
  for path_name in ("edm", "linear"):
    for method in ("euler", "heun", "midpoint", "rk4"):
      add(getattr(samplers, method)(), path_name)
    for order in (2, 3, 4):
      add(samplers.adams_bashforth(order), path_name)
  return found


def diffrax_samplers():
  """Those of diffrax at given times, dx/dsigma = (x - data) / sigma."""
  import diffrax

  def make(solver):
    def sample(denoise, x, sigmas):
      slope = lambda sigma, x, _: (x - denoise(x, sigma)) / sigma
      x = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        solver,
        sigmas[0],
        sigmas[-1],
        None,
        x,
        stepsize_controller=diffrax.StepTo(sigmas),
        max_steps=len(sigmas),
      ).ys[0]
      return denoise(x, sigmas[-1])

    return sample

  calls = dict(Euler=(1, 0), Heun=(2, 0), Midpoint=(2, 0), Ralston=(2, 0))
  # The last stage of these is the next step's first.
  calls |= dict(Bosh3=(3, 1), Tsit5=(6, 1), Dopri5=(6, 1), Dopri8=(13, 1))
  return {
    name: (make(getattr(diffrax, name)()), *count)
    for name, count in calls.items()
  }


def libraries():
  """{library: its samplers}, ours first; one that does not import is left out,
  with a line that says so."""
  found = {}
  for library, samplers_of in (
    ("jaxgen", ours),
    ("diffrax", diffrax_samplers),
    ("diffusers", _torch("diffusers")),
    ("k_diffusion", _torch("k_diffusion")),
    ("torchdiffeq", _torch("torchdiffeq")),
  ):
    try:
      found[library] = samplers_of()
    except ImportError as error:
      print(f"{library}: {error}; its rows are left out")
  return found


def _torch(library):
  """The samplers of a PyTorch library, imported when they are called for."""

  def samplers_of():
    module = importlib.import_module("benchmarks.torch_schedulers")
    return getattr(module, f"{library}_samplers")()

  return samplers_of
