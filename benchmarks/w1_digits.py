"""W1 of images, where no truth is known: digits against noised digits."""

import time

import jax

from benchmarks import cells
from experiments import wasserstein
from experiments.lib import critics, distances, games

COLUMN = "digits, noise .5"
# The first three are 1-Lipschitz: the larger value is the better one. That of a
# penalty may lie above W1.
METHODS = ("cones", "features", "orthogonal", "gradient", "lipschitz")


def measure(cell: cells.Cell, how: dict) -> dict:
  """The dual's value on held-out images beside the clouds' own distance."""
  recipe = critics.Recipe(**how | dict(betas=tuple(how["betas"])))
  config = wasserstein.PRESETS["digits"][1]
  data, other = distances.load(config)
  key = jax.random.key(cell.seed)
  data_key, other_key, init_key, run_key = jax.random.split(key, 4)
  dim, number = data.held_out[0].size, config.num_cones
  cpu = time.process_time()
  game = critics.make(cell.method, recipe, dim, num_cones=number)
  pairs = games.zipped(
    game.turns,
    recipe.batch_size,
    (data.batches, data_key),
    (other.batches, other_key),
  )
  batch_fn = critics.with_temperature(game, pairs)
  starts = distances.starts(data, other, init_key, number)
  params = game.init(init_key, *starts)
  now = games.play(game.turns, params, batch_fn, recipe.num_steps, run_key)
  cpu = time.process_time() - cpu
  held_out = distances.held_out(data, other)
  found = distances.measure(game, now, held_out, recipe.bound)
  return dict(
    value=found["value"],
    error=found["standard_error"],
    clouds=found["clouds"],
    number=found["clouds_size"],
    cpu=cpu,
  )
