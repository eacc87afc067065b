"""Which network a configuration means, and that presets are what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import edm
from experiments.lib import datasets
from experiments.recipes import networks
from jaxgen.models import dit, mlp, padded, unet

CONFIG = edm.Config(run_dir="")
DIGITS = datasets.Data((8, 8, 1), 10, 0.8, None, None)
POINTS = datasets.Data((2,), 0, 3.6, None, None)


def size(model, shape):
  start = lambda x: model.init(jax.random.key(0), x, 0.0)
  params = jax.eval_shape(start, jnp.zeros(shape))
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_the_demo_has_the_network_that_its_checkpoints_have():
  model = networks.make(CONFIG, DIGITS)
  assert model == unet.UNet(attention=(4,), num_classes=10)


def test_auto_is_by_the_data_and_names_are_what_they_say():
  kinds = {"unet": unet.UNet, "dit": dit.DiT, "mlp": mlp.MLP}
  for name, kind in kinds.items():
    config = dataclasses.replace(CONFIG, model=name)
    assert isinstance(networks.make(config, DIGITS), kind)
  assert isinstance(networks.make(CONFIG, POINTS), mlp.MLP)


def test_settings_arrive():
  given = dict(width=64, num_heads=2, patch=4, dropout=0.1)
  config = dataclasses.replace(
    CONFIG, model="dit", num_blocks=3, dtype="bfloat16", **given
  )
  half = jnp.dtype("bfloat16")
  expected = dit.DiT(depth=3, num_classes=10, dtype=half, **given)
  assert networks.make(config, DIGITS) == expected


@pytest.mark.parametrize(
  "shape, multipliers, sizes",
  [
    ((8, 8, 1), (1, 2), (4,)),  # what the digits had before it was automatic
    ((32, 32, 3), (1, 2, 2), (8,)),  # and the photos
    ((28, 28, 1), (1, 2), (14,)),
    ((13, 13, 1), (1, 2), (7,)),
    ((13, 30, 1), (1, 1, 1), (8,)),
    ((64, 64, 3), (1, 2), (32,)),
    ((66, 66, 3), (1, 2), ()),
    ((8, 8, 1), (1,), (8,)),
  ],
)
def test_automatic_attention_is_at_the_lowest_level(shape, multipliers, sizes):
  """Sides are halved once per level, after they are padded."""
  config = dataclasses.replace(CONFIG, multipliers=multipliers)
  data = DIGITS._replace(shape=shape)
  assert networks.resolve(config, data).attention == sizes
  net = networks.make(config, data)
  assert getattr(net, "net", net).attention == sizes
  given = dataclasses.replace(config, attention=())
  assert networks.resolve(given, data) == given


def test_attention_of_other_networks_stays_open():
  for model, data in (("dit", DIGITS), ("mlp", DIGITS), ("auto", POINTS)):
    config = dataclasses.replace(CONFIG, model=model)
    assert networks.resolve(config, data) == config


def test_only_sides_that_do_not_fit_are_padded():
  data = DIGITS._replace(shape=(13, 16, 1))
  net = networks.make(CONFIG, data)
  expected = unet.UNet(attention=(8,), num_classes=10)
  assert net == padded.Padded(expected, 2)
  config = dataclasses.replace(CONFIG, model="dit", patch=3)
  net = networks.make(config, data)
  assert isinstance(net, padded.Padded) and net.multiple == 3
  config = dataclasses.replace(CONFIG, model="dit", patch=1)
  assert isinstance(networks.make(config, data), dit.DiT)


def test_cifar10_is_the_published_run():
  config = edm.PRESETS["cifar10"][1]
  data = datasets.Data((32, 32, 3), 10, 0.5, None, None)
  model = networks.make(config, data)
  assert (model.num_groups, model.embedding_width) == (32, 256)
  assert abs(size(model, data.shape) / 55.735e6 - 1) < 0.005
  assert config.num_steps * config.batch_size == 200_000_000
  assert round(config.warmup_steps * config.batch_size / 1e6, 3) == 10
  half_life = -config.batch_size * np.log(2) / np.log(config.ema_decay[0])
  assert abs(half_life / 5e5 - 1) < 0.01
