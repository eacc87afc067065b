"""Tables from names to functions, for the values of flags.

Library code takes functions; only the command line uses names. A lookup of an
unknown name raises a ValueError that lists the known names.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jaxgen import couplings, levels, paths, predictions, samplers
from jaxgen.losses import (
  adversarial,
  flow_matching,
  o_gan,
  score_matching,
  wasserstein,
)
from jaxgen.training import sharding

# (ratio_min, ratio_max) -> path; only EDM's path depends on the ratios.
PATHS: dict[str, Callable[[float, float], paths.Path]] = {
  "edm": paths.edm,
  "vp": lambda low, high: paths.vp(),
  "cosine": lambda low, high: paths.cosine(),
  "linear": lambda low, high: paths.linear(),
  "trigonometric": lambda low, high: paths.trigonometric(),
}

# sigma_data -> prediction; only EDM's depends on sigma_data.
PREDICTIONS: dict[str, Callable] = {
  "edm": predictions.edm,
  "data": lambda sigma_data: predictions.data,
  "noise": lambda sigma_data: predictions.noise,
  "velocity": lambda sigma_data: predictions.velocity,
  "v": lambda sigma_data: predictions.v,
  "score": lambda sigma_data: predictions.score,
}


class Draw(NamedTuple):
  """A distribution of t: its sampler and its density."""

  sample: Callable  # (key, path, shape, *settings, ratio_min, ratio_max) -> t
  density: Callable  # (path, *settings, ratio_min, ratio_max) -> (t -> [])
  settings: bool  # whether it has the mean and std of the log noise ratio


DRAWS = {
  "uniform": Draw(levels.uniform, levels.uniform_density, False),
  "stratified": Draw(levels.stratified, levels.uniform_density, False),
  "normal": Draw(levels.logit_normal, levels.logit_normal_density, True),
}

# (path, sigma_data, density) -> weight, and the prediction whose squared error
# it multiplies; None is the network's own prediction.
WEIGHTS: dict[str, tuple[Callable, Callable | None]] = {
  "uniform": (lambda path, sd, p: levels.uniform_weight, None),
  "edm": (lambda path, sd, p: levels.edm_weight(path, sd), predictions.data),
  "min_snr": (
    lambda path, sd, p: levels.min_snr_weight(path),
    predictions.data,
  ),
  "sigmoid": (
    lambda path, sd, p: levels.sigmoid_weight(path),
    predictions.noise,
  ),
  "noise": (lambda path, sd, p: levels.uniform_weight, predictions.noise),
  "elbo": (lambda path, sd, p: levels.elbo_weight(path, p), predictions.data),
}

# Deterministic solvers of the probability flow, for both directions of time.
FLOW_SOLVERS: dict[str, Callable[[], samplers.Solver]] = {
  "euler": samplers.euler,
  "heun": samplers.heun,
  "midpoint": samplers.midpoint,
  "rk4": samplers.rk4,
  "adams_bashforth_4": lambda: samplers.adams_bashforth(4),
  "ddim": samplers.ddim,
  "dpm_solver_2s": samplers.dpm_solver_2s,
  "dpm_solver_3s": samplers.dpm_solver_3s,
  "dpmpp_2s": samplers.dpmpp_2s,
  "dpmpp_2m": samplers.dpmpp_2m,
  "dpmpp_3m": samplers.dpmpp_3m,
  "deis_3": lambda: samplers.deis(3),
  "unipc_2": lambda: samplers.unipc(2),
  "unipc_3": lambda: samplers.unipc(3),
}

# Stochastic solvers.
NOISE_SOLVERS: dict[str, Callable[[], samplers.Solver]] = {
  "euler_maruyama": samplers.euler_maruyama,
  "ancestral": samplers.ancestral,
  "dpmpp_sde": samplers.dpmpp_sde,
  "dpmpp_2m_sde": samplers.dpmpp_2m_sde,
  "seeds_2": samplers.seeds_2,
  "predictor_corrector": lambda: samplers.predictor_corrector(samplers.ddim()),
  "annealed": lambda: samplers.annealed(num_corrections=5),
}

# amount of churn -> solver; only the solver churn uses the amount.
SOLVERS: dict[str, Callable[[float], samplers.Solver]] = {
  name: lambda churn, make=make: make()
  for name, make in (FLOW_SOLVERS | NOISE_SOLVERS).items()
} | {"churn": samplers.churn}

# Solvers of flow maps.
MAP_SOLVERS: dict[str, Callable[[], samplers.Solver]] = {
  "jump_map": samplers.jump_map,
  "renoised": samplers.renoised,
}

GRIDS = {
  "karras": samplers.grids.karras,
  "log_snr": samplers.grids.log_snr,
  "uniform": samplers.grids.uniform,
  "cosine": samplers.grids.cosine,
  "sigmoid": samplers.grids.sigmoid,
  "shifted": samplers.grids.shifted,
}

# config -> coupling of a pool of examples and sources: None for independent
# pairs, or (key, data, source, labels) -> order.
COUPLINGS: dict[str, Callable] = {
  "independent": lambda config: None,
  "exact": lambda config: lambda key, x, y, labels: couplings.exact(x, y),
  "conditional": lambda config: (
    lambda key, x, y, labels: couplings.conditional(x, y, labels)
  ),
  "entropic": lambda config: (
    lambda key, x, y, labels: couplings.entropic(
      key, x, y, epsilon=2 * config.bridge_std**2
    )
  ),
}

# (std, t_max) -> gamma.
BRIDGES: dict[str, Callable] = {
  "none": lambda std, t_max: flow_matching.constant(std),
  "constant": lambda std, t_max: flow_matching.constant(std),
  "brownian": flow_matching.brownian,
}

# (score_fn, x, direction) -> loss, for scores without a target.
SCORE_LOSSES: dict[str, Callable] = {
  "implicit": lambda score_fn, x, _: score_matching.implicit(score_fn, x),
  "sliced": score_matching.sliced,
  "sliced_vr": score_matching.sliced_vr,
}
LOSSES = dict.fromkeys(("denoising", "explicit", *SCORE_LOSSES))

# Losses of two players, as functions of the scores of a pair.
OBJECTIVES: dict[str, adversarial.Objective] = {
  "original": adversarial.original(),
  "non_saturating": adversarial.non_saturating(),
  "least_squares": adversarial.least_squares(),
  "hinge": adversarial.hinge(),
  "wasserstein": adversarial.wasserstein(),
  "relativistic": adversarial.relativistic(),
} | {
  divergence.__name__: adversarial.f_gan(divergence())
  for divergence in (
    adversarial.kullback_leibler,
    adversarial.reverse_kullback_leibler,
    adversarial.pearson,
    adversarial.squared_hellinger,
    adversarial.jensen_shannon,
    adversarial.total_variation,
  )
}

# (critic_fn, data, generated, mix) -> [].
PENALTIES: dict[str, Callable] = {
  "none": lambda critic_fn, x, y, mix: 0.0,
  "gradient": lambda critic_fn, x, y, mix: wasserstein.gradient_penalty(
    critic_fn, wasserstein.between(x, y, mix)
  ),
  "lipschitz": lambda critic_fn, x, y, mix: wasserstein.lipschitz_penalty(
    critic_fn, wasserstein.between(x, y, mix)
  ),
  "divergence": lambda critic_fn, x, y, mix: wasserstein.divergence_penalty(
    critic_fn, wasserstein.between(x, y, mix)
  ),
  "r1": lambda critic_fn, x, y, mix: adversarial.zero_centred(critic_fn, x),
  "r1_r2": lambda critic_fn, x, y, mix: (
    adversarial.zero_centred(critic_fn, x)
    + adversarial.zero_centred(critic_fn, y)
  ),
  "quadratic": lambda critic_fn, x, y, mix: o_gan.quadratic_penalty(
    critic_fn, x, y
  ),
}

# The axis of each leaf of the state that is split over the devices.
SHARDS: dict[str, sharding.Rule] = {
  "replicated": sharding.replicate,
  "full": sharding.longest_axis(),
}

PathName = Literal[tuple(PATHS)]  # type: ignore[valid-type]
PredictionName = Literal[tuple(PREDICTIONS)]  # type: ignore[valid-type]
DrawName = Literal[tuple(DRAWS)]  # type: ignore[valid-type]
WeightName = Literal[tuple(WEIGHTS)]  # type: ignore[valid-type]
SolverName = Literal[tuple(SOLVERS)]  # type: ignore[valid-type]
MapSolverName = Literal[tuple(MAP_SOLVERS)]  # type: ignore[valid-type]
AnySolverName = Literal[(*SOLVERS, *MAP_SOLVERS)]  # type: ignore[valid-type]
LossName = Literal[tuple(LOSSES)]  # type: ignore[valid-type]
CouplingName = Literal[tuple(COUPLINGS)]  # type: ignore[valid-type]
BridgeName = Literal[tuple(BRIDGES)]  # type: ignore[valid-type]
ObjectiveName = Literal[tuple(OBJECTIVES)]  # type: ignore[valid-type]
PenaltyName = Literal[tuple(PENALTIES)]  # type: ignore[valid-type]
GridName = Literal[tuple(GRIDS)]  # type: ignore[valid-type]
ShardName = Literal[tuple(SHARDS)]  # type: ignore[valid-type]


def lookup(table: dict[str, Any], name: str, flag: str) -> Any:
  """table[name].

  Raises:
    ValueError: no such name; the error lists the known names.
  """
  if name not in table:
    raise ValueError(
      f"{flag}: expected one of {', '.join(table)}, got {name!r}"
    )
  return table[name]
