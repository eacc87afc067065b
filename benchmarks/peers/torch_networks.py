"""The U-Net, the DiT and the MLP in plain PyTorch, batch first, for timing.

The same layers in the same order as jaxgen/models/, from PyTorch's own modules
and functions. Attributes have the names of the Flax parameters, so that `load`
can copy the weights. Only the settings of the digits presets are supported.
"""

import math

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jaxgen.models import dit, unet


def load(module: nn.Module, params) -> nn.Module:
  """Copies Flax parameters into the module of the same names.

  Raises:
    ValueError: the two differ in the number of parameters.
  """
  flat = jax.tree_util.tree_leaves_with_path(params["params"])
  with torch.no_grad():
    for path, leaf in flat:
      *names, kind = [entry.key for entry in path]
      owner = module.get_submodule(".".join(names))
      value = torch.from_numpy(np.array(leaf))
      if kind == "kernel" and value.ndim == 4:  # HWIO to OIHW
        value = value.permute(3, 2, 0, 1)
      elif kind == "kernel":
        value = value.T
      target = owner.bias if kind == "bias" else owner.weight
      target.copy_(value.reshape(target.shape))
  ours = sum(leaf.size for _, leaf in flat)
  theirs = sum(p.numel() for p in module.parameters())
  if ours != theirs:
    raise ValueError(f"module: expected {ours} parameters, got {theirs}")
  return module


class Time(nn.Module):
  """[sin(w t), cos(w t)], [B] -> [B, dim]."""

  def __init__(self, dim, max_frequency):
    super().__init__()
    w = torch.from_numpy(np.geomspace(1, max_frequency, dim // 2)).float()
    self.register_buffer("w", w)

  def forward(self, t):
    angles = t[:, None] * self.w
    return torch.cat([angles.sin(), angles.cos()], -1)


def label_table(num_classes, dim):
  """The table of class vectors, the last one for no class."""
  return nn.ModuleDict(dict(table=nn.Embedding(num_classes + 1, dim)))


def attend(qkv, heads):
  """[B, L, 3 C] -> [B, L, C]."""
  batch, length, width = qkv.shape
  parts = qkv.view(batch, length, 3, heads, width // 3 // heads)
  q, k, v = parts.permute(2, 0, 3, 1, 4)
  h = functional.scaled_dot_product_attention(q, k, v)
  return h.transpose(1, 2).reshape(batch, length, width // 3)


class Attention(nn.Module):
  """Residual self-attention on [B, C, H, W]."""

  def __init__(self, channels, groups, heads):
    super().__init__()
    self.heads = heads
    self.norm = nn.GroupNorm(groups, channels, eps=1e-5)
    self.qkv = nn.Linear(channels, 3 * channels)
    self.out = nn.Linear(channels, channels)

  def forward(self, x):
    h = self.norm(x).flatten(2).transpose(1, 2)
    h = self.out(attend(self.qkv(h), self.heads))
    return x + h.transpose(1, 2).reshape(x.shape)


class Block(nn.Module):
  """A residual block of the U-Net on [B, C, H, W]."""

  def __init__(self, channels, features, groups, heads, attends):
    super().__init__()
    self.adapt = nn.Linear(features, 2 * channels)
    self.norm_0 = nn.GroupNorm(groups, channels, eps=1e-5)
    self.conv_0 = nn.Conv2d(channels, channels, 3, padding=1)
    self.norm_1 = nn.GroupNorm(groups, channels, eps=1e-5)
    self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
    self.attention = Attention(channels, groups, heads) if attends else None

  def forward(self, x, condition):
    scale, shift = self.adapt(condition)[..., None, None].chunk(2, 1)
    h = self.conv_0(functional.silu(self.norm_0(x)))
    h = torch.addcmul(shift, self.norm_1(h), 1 + scale)
    x = x + self.conv_1(functional.silu(h))
    return x if self.attention is None else self.attention(x)


class UNet(nn.Module):
  """jaxgen.models.unet.UNet with added skips; takes and gives [B, H, W, C]."""

  def __init__(self, net, shape):
    super().__init__()
    widths = [net.width * m for m in net.multipliers]
    self.levels, self.num_blocks = len(widths) - 1, net.num_blocks
    self.num_middle = net.num_middle_blocks
    features, sides = net.embedding_width, max(shape[:2])
    self.time = Time(features, net.max_frequency)
    self.time_0 = nn.Linear(features, features)
    self.time_1 = nn.Linear(features, features)
    self.label = label_table(net.num_classes, features)
    self.conv_in = nn.Conv2d(shape[-1], widths[0], 3, padding=1)

    def block(i, attends=True):
      attends = attends and sides >> i in net.attention
      sizes = widths[i], features, net.num_groups, net.num_heads
      return Block(*sizes, attends)

    for i in range(self.levels):
      self.add_module(f"halve_{i}", nn.Conv2d(widths[i], widths[i + 1], 1))
      self.add_module(f"double_{i}", nn.Conv2d(widths[i + 1], widths[i], 1))
      for j in range(net.num_blocks):
        self.add_module(f"down_{i}_{j}", block(i))
        self.add_module(f"up_{i}_{j}", block(i))
    for j in range(self.num_middle):
      last = 0 < j == self.num_middle - 1
      self.add_module(f"middle_{j}", block(self.levels, not last))
    self.norm_out = nn.GroupNorm(net.num_groups, widths[0], eps=1e-5)
    self.conv_out = nn.Conv2d(widths[0], shape[-1], 3, padding=1)

  def forward(self, x, t, label):
    silu, part = functional.silu, self.get_submodule
    h = silu(self.time_0(self.time(t)) + self.label["table"](label))
    condition = silu(self.time_1(h))
    h = self.conv_in(x.permute(0, 3, 1, 2))
    skips = []
    for i in range(self.levels):
      for j in range(self.num_blocks):
        h = part(f"down_{i}_{j}")(h, condition)
        skips.append(h)
      h = part(f"halve_{i}")(functional.avg_pool2d(h, 2))
    for j in range(self.num_middle):
      h = part(f"middle_{j}")(h, condition)
    for i in reversed(range(self.levels)):
      h = functional.interpolate(part(f"double_{i}")(h), scale_factor=2)
      for j in range(self.num_blocks):
        h = part(f"up_{i}_{j}")(h + skips.pop(), condition)
    return self.conv_out(silu(self.norm_out(h))).permute(0, 2, 3, 1)


class DiTBlock(nn.Module):
  """A block of the DiT on [B, L, C]."""

  def __init__(self, width, heads, ratio):
    super().__init__()
    self.heads = heads
    self.adapt = nn.Linear(width, 6 * width)
    self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
    self.qkv = nn.Linear(width, 3 * width)
    self.out = nn.Linear(width, width)
    self.mlp_0 = nn.Linear(width, ratio * width)
    self.mlp_1 = nn.Linear(ratio * width, width)

  def forward(self, x, condition):
    a_1, b_1, g_1, a_2, b_2, g_2 = self.adapt(condition)[:, None].chunk(6, -1)
    h = torch.addcmul(b_1, self.norm(x), 1 + a_1)
    x = torch.addcmul(x, self.out(attend(self.qkv(h), self.heads)), g_1)
    h = self.mlp_0(torch.addcmul(b_2, self.norm(x), 1 + a_2))
    h = self.mlp_1(functional.gelu(h, approximate="tanh"))
    return torch.addcmul(x, h, g_2)


class DiT(nn.Module):
  """jaxgen.models.dit.DiT; takes and gives [B, H, W, C]."""

  def __init__(self, net, shape):
    super().__init__()
    rows, columns = (side // net.patch for side in shape[:2])
    places = dit.positions(rows, columns, net.width)
    self.patch, size = net.patch, net.patch**2 * shape[-1]
    self.time = Time(net.embedding_width, net.max_frequency)
    self.time_0 = nn.Linear(net.embedding_width, net.width)
    self.time_1 = nn.Linear(net.width, net.width)
    self.label = label_table(net.num_classes, net.width)
    self.patches = nn.Linear(size, net.width)
    self.register_buffer("places", torch.from_numpy(places))
    self.depth = net.depth
    for i in range(net.depth):
      block = DiTBlock(net.width, net.num_heads, net.mlp_ratio)
      self.add_module(f"block_{i}", block)
    self.adapt_out = nn.Linear(net.width, 2 * net.width)
    self.norm = nn.LayerNorm(net.width, eps=1e-6, elementwise_affine=False)
    self.out = nn.Linear(net.width, size)

  def forward(self, x, t, label):
    batch, height, width, channels = x.shape
    p, rows, columns = self.patch, height // self.patch, width // self.patch
    h = self.time_1(functional.silu(self.time_0(self.time(t))))
    condition = functional.silu(h + self.label["table"](label))
    h = x.view(batch, rows, p, columns, p, channels).transpose(2, 3)
    h = self.patches(h.reshape(batch, rows * columns, -1)) + self.places
    for i in range(self.depth):
      h = self.get_submodule(f"block_{i}")(h, condition)
    scale, shift = self.adapt_out(condition)[:, None].chunk(2, -1)
    h = self.out(torch.addcmul(shift, self.norm(h), 1 + scale))
    h = h.view(batch, rows, columns, p, p, channels).transpose(2, 3)
    return h.reshape(x.shape)


def trainer(net, config):
  """The demo's step: EDM loss, clipping, Adam, average.

  Returns:
    (images, labels, learning rate, the average's rate) -> loss; and the
    averages of the parameters, in their order.
  """
  params = list(net.parameters())
  means = [p.detach().clone() for p in params]
  optimizer = torch.optim.Adam(
    params, lr=1e-5, betas=(0.9, config.adam_b2), fused=True
  )
  low, high = math.log(config.ratio_min), math.log(config.ratio_max)
  sd = config.sigma_data

  def step(images, labels, rate, share):
    z = torch.empty(len(images))
    nn.init.trunc_normal_(z, config.level_mean, config.level_std, low, high)
    sigma = z.exp()[:, None, None, None]
    noisy = images + sigma * torch.randn_like(images)
    scale = (sigma**2 + sd**2).sqrt()
    target = scale / (sigma * sd) * images - sd / (sigma * scale) * noisy
    out = net(noisy / scale, z / 4, labels)
    loss = (out - target).square().mean()
    optimizer.param_groups[0]["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(params, config.clip_norm)
    optimizer.step()
    with torch.no_grad():
      torch._foreach_lerp_(means, params, share)
    return loss

  return step, means


def train_step(net, config, images, labels):
  """() -> the loss of one more step on the same batch."""
  step, _ = trainer(net, config)
  return lambda: step(images, labels, 1e-5, 1e-3)


def twin(model, params, shape):
  """(x [B, *D], t []) -> [B, *D], the U-Net's or the MLP's, weights copied."""
  if isinstance(model, unet.UNet):
    net = load(UNet(model, shape[1:]), params).requires_grad_(False)
    label = torch.full(shape[:1], model.num_classes)
    return lambda x, t: net(x.float(), t.float().expand(shape[0]), label)
  features = Time(model.embedding_width, model.max_frequency)
  layers = [
    [torch.from_numpy(np.array(layer[k])) for k in ("bias", "kernel")]
    for _, layer in sorted(params["params"].items())  # hidden_0 ... out
  ]

  def forward(x, t):
    h = torch.cat([x.float(), features(t.float().expand(len(x)))], -1)
    for bias, kernel in layers[:-1]:
      h = functional.silu(torch.addmm(bias, h, kernel))
    bias, kernel = layers[-1]
    return torch.addmm(bias, h, kernel)

  return forward
