"""The U-Net's layers, batch first, written from their equations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np


def randomise(params, dtype="float32"):
  """Draws every parameter, so that no branch hides behind a zero."""
  rng = np.random.default_rng(0)
  draw = lambda a: jnp.asarray(0.4 * rng.normal(size=a.shape), dtype)
  return jax.tree.map(draw, params)


def dense(p, x):
  return jnp.einsum("...i,ij->...j", x, p["kernel"]) + p["bias"].reshape(
    (1,) * (x.ndim - 1) + (-1,)
  )


def conv(p, x):
  """3 x 3 taps on [B, H, W, C], zeros around."""
  height, width = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  total = p["bias"].reshape(1, 1, 1, -1)
  for i, j in itertools.product(range(3), range(3)):
    part = padded[:, i : i + height, j : j + width]
    total = total + jnp.einsum("bhwi,ij->bhwj", part, p["kernel"][i, j])
  return total


def norm(p, x, groups=2):
  """Two passes over [B, H, W, C]."""
  batch, channels = x.shape[0], x.shape[-1]
  parts = x.reshape(batch, -1, groups, channels // groups)
  y = parts - parts.mean((1, 3), keepdims=True)
  y = y / jnp.sqrt((y * y).mean((1, 3), keepdims=True) + 1e-5)
  line = lambda a: a.reshape(1, 1, 1, -1)
  return y.reshape(x.shape) * line(p["scale"]) + line(p["bias"])


def attention(p, x, heads=2):
  batch, height, width, channels = x.shape
  h = dense(p["qkv"], norm(p["norm"], x))
  h = h.reshape(batch, height * width, 3, heads, channels // heads)
  q, k, v = (h[:, :, i] for i in range(3))
  logits = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(channels // heads)
  h = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(logits), v)
  return x + dense(p["out"], h.reshape(x.shape))


def halve(x):
  """Means of 2 x 2, [B, H, W, C]."""
  return sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def double(x):
  return x.repeat(2, 1).repeat(2, 2)


def block(p, x, condition, resample=lambda x: x):
  scale, shift = jnp.split(dense(p["adapt"], condition), 2, -1)
  h = resample(jax.nn.silu(norm(p["norm_0"], x)))
  h = conv(p["conv_0"], h)
  h = norm(p["norm_1"], h) * (1 + scale[:, None, None])
  h = conv(p["conv_1"], jax.nn.silu(h + shift[:, None, None]))
  x = resample(x)
  x = h + (dense(p["shortcut"], x) if "shortcut" in p else x)
  return attention(p["attention"], x) if "attention" in p else x
