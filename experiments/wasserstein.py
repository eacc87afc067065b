"""The 1-Wasserstein distance of two data sets, by a critic that it trains.

  python -m experiments.wasserstein points --run-dir runs/w1 --other moons
  python -m experiments.wasserstein points --run-dir runs/w1-files \
    --data mine.npz --other theirs.npz
  python -m experiments.wasserstein digits --run-dir runs/w1-digits

The value is the dual's on draws that were held out, E f(data) - E f(other). Of
a critic that is 1-Lipschitz by its form it bounds the distance from below; the
exact distance between the held-out clouds lies above it on average, so that
the two enclose the truth. The critic's rays say where mass goes.

Methods: Arjovsky et al. 2017, arXiv:1701.07875; Gulrajani et al. 2017,
arXiv:1704.00028; Anil et al. 2019, arXiv:1811.05381; Korotin et al. 2022,
arXiv:2206.07767 (MM-B, MM, MM-R); cones as in jaxgen/models/lipschitz.py.
"""

import functools
import sys

import jax

from experiments.lib import (
  critics,
  distance_settings,
  distances,
  games,
  settings,
  training,
)
from experiments.lib import run as runs
from jaxgen.training import state

MODULE = "experiments.wasserstein"

Config = distance_settings.Config
PRESETS = distance_settings.PRESETS


def run(config: Config) -> state.State:
  """Trains, measures and draws; resumes the run directory if it has begun."""
  config, recipe = distances.resolve(settings.plain(config))
  data, other = distances.load(config)
  keys = jax.random.split(jax.random.key(config.seed), 4)
  data_key, other_key, init_key, run_key = keys
  critic = critics.make(
    config.critic,
    recipe,
    data.held_out[0].size,
    num_cones=config.num_cones,
    cone_scales=config.cone_scales,
  )
  pairs = games.zipped(
    critic.turns,
    recipe.batch_size,
    (data.batches, data_key),
    (other.batches, other_key),
  )
  batch_fn = critics.with_temperature(critic, pairs)
  starts = distances.starts(data, other, init_key, config.num_cones)
  start = lambda: state.init(
    run_key, critic.init(init_key, *starts), critic.turns
  )
  training.check(config, start, critic.turns)
  held_out = distances.held_out(data, other)
  show = functools.partial(distances.picture, critic, held_out)
  with runs.open_directory(config.run_dir, config, MODULE) as run_dir:
    now = training.train(
      run_dir, config, start, critic.turns, batch_fn, show, "critic"
    )
    result = distances.measure(critic, now, held_out, recipe.bound)
    distances.write(run_dir, result)
    show(run_dir / "potential.png", now)
  print(f"{run_dir}: {distances.line(config, result)}", file=sys.stderr)
  return now


if __name__ == "__main__":
  runs.main(MODULE, PRESETS, run)
