"""Which network a configuration means, and that presets are what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import edm
from experiments.lib import datasets, networks
from jaxgen.models import dit, mlp, unet

CONFIG = edm.Config(run_dir="")
DIGITS = datasets.Data((8, 8, 1), 10, 0.8, None, (None, None), None, None)
POINTS = datasets.Data((2,), 0, 3.6, None, (None, None), None, None)


def size(model, shape):
  params = jax.eval_shape(
    lambda key, x: model.init(key, x, 0.0), jax.random.key(0), jnp.zeros(shape)
  )
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
  config = dataclasses.replace(
    CONFIG,
    model="dit",
    width=64,
    num_blocks=3,
    num_heads=2,
    patch=4,
    dropout=0.1,
    dtype="bfloat16",
  )
  assert networks.make(config, DIGITS) == dit.DiT(
    width=64,
    depth=3,
    num_heads=2,
    patch=4,
    dropout=0.1,
    num_classes=10,
    dtype=jnp.dtype("bfloat16"),
  )


@pytest.mark.parametrize(
  "changes, data, message",
  [
    (dict(model="unet"), POINTS, "model, data: .*for points, got unet"),
    (dict(model="dit"), POINTS, "model, data: .*for points, got dit"),
    (dict(width=3), DIGITS, "width: .*multiple of 4.*got 3"),
    (dict(width=144), DIGITS, "width: .*of 32 above 128.*got 144"),
    (
      dict(attention_implementation="cudnn"),
      DIGITS,
      "attention_implementation, dtype: expected xla",
    ),
  ],
)
def test_what_cannot_be_is_one_line(changes, data, message):
  config = dataclasses.replace(CONFIG, **changes)
  with pytest.raises(ValueError, match=rf"^{message}") as caught:
    networks.make(config, data)
  assert "\n" not in str(caught.value)


def test_cifar10_is_the_published_run():
  config = edm.PRESETS["cifar10"][1]
  data = datasets.Data((32, 32, 3), 10, 0.5, None, (None, None), None, None)
  model = networks.make(config, data)
  assert (model.num_groups, model.embedding_width) == (32, 256)
  assert abs(size(model, data.shape) / 55.735e6 - 1) < 0.005
  assert config.num_steps * config.batch_size == 200_000_000
  assert round(config.warmup_steps * config.batch_size / 1e6, 3) == 10
  half_life = -config.batch_size * np.log(2) / np.log(config.ema_decay[0])
  assert abs(half_life / 5e5 - 1) < 0.01
