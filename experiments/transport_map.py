"""Transport maps: one data set to another at the least squared distance.

  python -m experiments.transport_map pair --run-dir runs/pair
  python -m experiments.transport_map pair --run-dir runs/moons --source moons
  python -m experiments.transport_map neural-ot --run-dir runs/neural-ot
  python -m experiments.transport_map zero-to-eight --run-dir runs/morph

--method says how the map T of --source to --data is learned: semi_dual, w2gn or
makkuva (T = grad phi of a potential phi), max_min or entropic. Time runs from
0, the source, to 1, the data: a sample is a draw x of the source moved along
its displacement, x + t (T(x) - x), by Euler's method in eight steps, all of one
evaluation of T: the network once, and its gradient where T is one.

At the end result.json says what the map costs and how far the mapped points lie
from the data, beside the floor: what as many real ones get.

Methods: Amos 2023, arXiv:2210.12153; Korotin et al. 2023, arXiv:2201.12220;
Korotin et al. 2021, arXiv:1909.13082; Makkuva et al. 2020, arXiv:1908.10962;
Seguy et al. 2018, arXiv:1711.02283.
"""

import functools

from experiments.lib import (
  averages,
  datasets,
  map_settings,
  maps,
  settings,
  training,
)
from experiments.lib import run as runs
from jaxgen.training import state, step

MODULE = "experiments.transport_map"

Config = map_settings.Config
PRESETS = map_settings.PRESETS
make_method = maps.make_method


def make_turns(
  config: Config, method: maps.Method, data: datasets.Data
) -> tuple[step.Turn, ...]:
  """The players of the method's game, the map's with the run's averages."""
  return maps.make_game(config, data, averages.rules(config)).turns


def run(config: Config) -> state.State:
  """Trains, samples, draws and measures; resumes the run directory."""
  config = map_settings.resolve(settings.plain(config))
  return training.run(
    MODULE,
    config,
    make_method,
    make_turns,
    maps.batches,
    functools.partial(maps.pictures, config),
  )


if __name__ == "__main__":
  runs.main(MODULE, PRESETS, run)
