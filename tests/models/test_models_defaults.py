"""Defaults of models: a model is rebuilt from its settings alone."""

from jaxgen import orders
from jaxgen.models import (
  autoencoder,
  bidirectional,
  causal,
  coupling_flow,
  dit,
  gan,
  icnn,
  layers,
  lipschitz,
  made,
  masked_mlp,
  mlp,
  nade,
  patch_discriminator,
  pixelcnn,
  potentials,
  recurrent,
  residual,
  rotary,
  shifted,
  unet,
  vae,
)
from tests import defaults


def test_of_networks_of_images():
  blocks = dict(width=128, depth=4, num_heads=4, patch=2, mlp_ratio=4)
  inputs = dict(num_classes=0, embedding_width=256, max_frequency=16.0)
  defaults.check(dit.DiT, dropout=0.0, remat=False, **blocks, **inputs)
  defaults.check(dit.dense, zero=False)
  defaults.check(dit.DiT.__call__, train=False)
  blocks = dict(width=32, multipliers=(1, 2), num_blocks=1, num_middle_blocks=2)
  inputs = dict(num_classes=0, embedding_width=64, max_frequency=16.0)
  heads = dict(attention=(), num_heads=1, num_groups=8, skips="add")
  defaults.check(unet.UNet, dropout=0.0, remat=False, **blocks, **inputs)
  defaults.check(unet.UNet, out_features=None, **heads)
  defaults.check(unet.UNet.__call__, train=False)
  defaults.check(residual.conv, zero=False)
  for kind in (autoencoder.Encoder, autoencoder.Decoder):
    defaults.check(kind, factor=2, width=32, num_blocks=1, num_groups=8)
  kind = patch_discriminator.PatchDiscriminator
  defaults.check(kind, width=32, num_levels=2)


def test_of_flows():
  inputs = dict(num_classes=0, context_size=0, dropout=0.0)
  sizes = dict(num_blocks=8, width=256, depth=2, num_bins=8, bound=5.0)
  defaults.check(coupling_flow.CouplingFlow, **inputs, **sizes)
  defaults.check(coupling_flow.CouplingFlow.__call__, train=False)


def test_of_networks_of_vectors():
  inputs = dict(num_classes=0, embedding_width=32, max_frequency=16.0)
  wide = dict(features=(128, 128, 128), dropout=0.0, zero_output=True)
  defaults.check(mlp.MLP, **wide, **inputs)
  defaults.check(mlp.MLP.__call__, train=False)
  wide = dict(features=(128, 128, 128), num_classes=0)
  defaults.check(gan.Generator, embedding_width=32, bounded=False, **wide)
  defaults.check(gan.Discriminator, **wide)
  wide = dict(num_classes=0, embedding_width=32, dropout=0.0)
  for kind in (vae.Encoder, vae.Decoder):
    defaults.check(kind, features=(256, 256), **wide)
    defaults.check(kind.__call__, train=False)
  defaults.check(vae.ConvEncoder, features=(32, 64), **wide)
  defaults.check(vae.ConvDecoder, features=(64, 32), **wide)
  convex = dict(features=(32, 32, 32, 32), sharpness=4.0, strength=0.0)
  defaults.check(icnn.ICNN, **convex)
  defaults.check(lipschitz.Network, features=(128, 128))
  defaults.check(potentials.Potential, features=(64, 64))
  defaults.check(potentials.Map, features=(64, 64))


def test_of_networks_of_sequences():
  attending = dict(width=64, depth=3, num_heads=4, rotary=False)
  for kind, more in (
    (nade.NADE, dict(width=200)),
    (made.MADE, dict(features=(500,), label_width=32)),
    (pixelcnn.PixelCNN, dict(width=48, depth=3, first_kernel=5, kernel=3)),
    (recurrent.Recurrent, dict(width=128, depth=1, cell="gru")),
    (causal.Transformer, attending | dict(mlp_ratio=4)),
    (bidirectional.Transformer, attending),
    (masked_mlp.MaskedMLP, dict(features=(512,), label_width=32)),
  ):
    defaults.check(kind, num_classes=0, dropout=0.0, **more)
    defaults.check(kind.__call__, train=False)
  defaults.check(shifted.dense, zero=False)
  defaults.check(rotary.rotate, base=1e4)
  defaults.check(orders.receptive_field, num_points=2)


def test_of_layers():
  defaults.check(layers.time_embedding, max_frequency=16.0)
  # Wu and He 2018, arXiv:1803.08494: 32 groups, epsilon 1e-5.
  defaults.check(layers.GroupNorm, num_groups=32, epsilon=1e-5)
  defaults.check(layers.Attention, num_heads=1, num_groups=32)
