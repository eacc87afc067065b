"""A causal transformer on a sequence of tokens [T, P], with a cache for steps.

Output i depends on the label and on tokens 0, ..., i - 1 alone: the sequence is
shifted by one position at the input, and position i attends to positions
j <= i. With token_-1 replaced by nothing,

  h_i = Dense(token_(i-1)) + position_i + label vector
  h = h + attention(norm(h));   h = h + MLP(norm(h))       in every block
  out_i = Dense(norm(h_i)),     a layer that starts at zero

Tokens are real numbers: levels enter as one-hot vectors or values, patches of a
flow as they are. One network serves both ways of evaluation:

  __call__   all positions at once, [T, P] -> [T, out_features]
  start      the empty cache, from the label
  step       (cache, token_(i-1), i) -> (cache, out_i): one position attends to
             the cached keys and values, T times cheaper than __call__

Reference: Vaswani et al. 2017, arXiv:1706.03762; Child et al. 2019,
arXiv:1904.10509 (images as sequences).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes
from jaxgen.models import layers, rotary, shifted


class Cache(NamedTuple):
  """What the positions before one hand on to it.

  Attributes:
    keys: of each block, [num_heads, T, width / num_heads]; zero beyond the
      positions seen.
    values: as keys.
    condition: the label's vector, [width].
  """

  keys: tuple[Float[Array, "N T C"], ...]
  values: tuple[Float[Array, "N T C"], ...]
  condition: Float[Array, "width"]


class Block(nn.Module):
  """Attention and an MLP, with normalisation before each.

  Attributes:
    width, num_heads, mlp_ratio, dropout, implementation, dtype, rotary: as in
      Transformer.
    is_causal: whether a position attends to none after it.
  """

  width: int
  num_heads: int
  mlp_ratio: int
  dropout: float
  implementation: layers.Implementation
  dtype: Any
  is_causal: bool = True
  rotary: bool = False

  def setup(self):
    self.norm_0, self.norm_1 = norm(self.dtype), norm(self.dtype)
    self.qkv = shifted.dense(3 * self.width, self.dtype)
    self.out = shifted.dense(self.width, self.dtype)
    self.mlp_0 = shifted.dense(self.mlp_ratio * self.width, self.dtype)
    self.mlp_1 = shifted.dense(self.width, self.dtype)
    self.drop = nn.Dropout(self.dropout)

  def __call__(
    self, x: Float[Array, "T C"], train: bool
  ) -> Float[Array, "T C"]:
    """Maps all positions."""
    q, k, v = self.project(x, jnp.arange(len(x)))
    h = jax.nn.dot_product_attention(
      q, k, v, is_causal=self.is_causal, implementation=self.implementation
    )
    return self.finish(x, h, train)

  def step(
    self,
    x: Float[Array, "1 C"],
    keys: Float[Array, "N T D"],
    values: Float[Array, "N T D"],
    i: Int[Numeric, ""],
  ) -> tuple[Array, Array, Array]:
    """Maps position i: (its output, keys with its own, values with its own)."""
    q, k, v = self.project(x, jnp.asarray(i)[None])
    keys = jax.lax.dynamic_update_slice_in_dim(keys, k.swapaxes(0, 1), i, 1)
    values = jax.lax.dynamic_update_slice_in_dim(values, v.swapaxes(0, 1), i, 1)
    # One query: two small products, for which no kernel is worth its overhead.
    scores = jnp.einsum("nd,ntd->nt", q[0], keys) * q.shape[-1] ** -0.5
    seen = jnp.arange(keys.shape[1]) <= i
    lowest = jnp.finfo(scores.dtype).min
    weights = jax.nn.softmax(jnp.where(seen[None], scores, lowest))
    h = jnp.einsum("nt,ntd->nd", weights, values)
    return self.finish(x, h, False), keys, values

  def project(self, x, positions):
    """Queries, keys and values, [T, num_heads, width / num_heads] each."""
    shape = len(x), self.num_heads, self.width // self.num_heads
    parts = jnp.split(self.qkv(self.norm_0(x)), 3, -1)
    q, k, v = (part.reshape(shape) for part in parts)
    if self.rotary:
      q, k = rotary.rotate(q, positions), rotary.rotate(k, positions)
    return q, k, v

  def finish(self, x, h, train):
    """Adds the attention's values h, then the MLP, to the positions."""
    x = x + self.drop(self.out(h.reshape(x.shape)), deterministic=not train)
    h = nn.gelu(self.mlp_0(self.norm_1(x)), approximate=True)
    return x + self.drop(self.mlp_1(h), deterministic=not train)


def norm(dtype):
  """Layer normalisation of each position of [T, C]."""
  return nn.LayerNorm(dtype=dtype, use_fast_variance=False)


class Transformer(nn.Module):
  """A causal transformer; output i sees the label and tokens before i.

  Attributes:
    length: number of learned positions, the most tokens of a sequence.
    out_features: numbers that each position outputs.
    width: features of a position.
    depth: number of blocks.
    num_heads: number of attention heads; must divide the width.
    mlp_ratio: the MLP's hidden width divided by the width.
    dropout: probability of dropping an activation of a block's two residual
      branches in training.
    num_classes: number of labels; 0 for an unconditional model.
    implementation: attention kernel of __call__, "xla" or "cudnn" (no jvp).
    dtype: dtype of the activations; parameters and output are float32.
    rotary: whether attention also knows the distance of two positions, by
      rotations of queries and keys (rotary.py); needs heads of even size.
  """

  length: int
  out_features: int
  width: int = 64
  depth: int = 3
  num_heads: int = 4
  mlp_ratio: int = 4
  dropout: float = 0.0
  num_classes: int = 0
  implementation: layers.Implementation = "xla"
  dtype: Any = jnp.float32
  rotary: bool = False

  def setup(self):
    check(self)
    self.inputs = shifted.Inputs(
      self.length, self.width, self.num_classes, self.dtype
    )
    self.blocks = [
      Block(
        self.width,
        self.num_heads,
        self.mlp_ratio,
        self.dropout,
        self.implementation,
        self.dtype,
        rotary=self.rotary,
      )
      for _ in range(self.depth)
    ]
    self.norm = norm(self.dtype)
    self.out = shifted.dense(self.out_features, self.dtype, zero=True)

  def __call__(
    self,
    tokens: Float[Array, "T P"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "T K"]:
    """The outputs of all positions.

    Args:
      tokens: the sequence, [T, P], T at most length. The last token has no
        effect.
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      The outputs, [T, out_features]; row i depends on tokens before i.

    Raises:
      ValueError: there are more than `length` tokens or none, num_heads does
        not divide the width, or a setting or the label is out of range.
    """
    layers.check_settings(self.num_classes, self.dropout, label)
    h = self.inputs(tokens, label)
    for block in self.blocks:
      h = block(h, train)
    return self.finish(h)

  def start(self, label: Int[Numeric, ""] | None = None) -> Cache:
    """The cache before position 0.

    Args and Raises: as in __call__.
    """
    layers.check_settings(self.num_classes, self.dropout, label)
    size = self.width // self.num_heads
    empty = jnp.zeros((self.num_heads, self.length, size), self.dtype)
    pages = (empty,) * self.depth
    return Cache(pages, pages, self.inputs.condition(label))

  def step(
    self,
    cache: Cache,
    token_before: Float[Array, "P"],
    i: Int[Numeric, ""],
  ) -> tuple[Cache, Float[Array, "K"]]:
    """The output of position i, without dropout.

    Args:
      cache: that of the step before, or `start(label)` for i = 0.
      token_before: token i - 1, [P]; any numbers for i = 0.
      i: the position, [], in [0, length).

    Returns:
      (the cache with position i, outputs [out_features]).
    """
    h = self.inputs.step(token_before, i, cache.condition)
    keys, values = [], []
    for block, *pages in zip(
      self.blocks, cache.keys, cache.values, strict=True
    ):
      h, page_keys, page_values = block.step(h, *pages, i)
      keys.append(page_keys)
      values.append(page_values)
    cache = Cache(tuple(keys), tuple(values), cache.condition)
    return cache, self.finish(h)[0]

  def finish(self, h):
    """Outputs of positions, [T, out_features]."""
    out = self.out(self.norm(h))
    return out.astype(dtypes.wider(self.dtype))


def check(net: nn.Module) -> None:
  """Raises for invalid settings of a transformer, before any layer runs."""
  names = "length out_features width depth num_heads mlp_ratio"
  for name in names.split():
    value = getattr(net, name)
    if value < 1:
      raise ValueError(f"{name}: expected at least 1, got {value}")
  if net.width % net.num_heads:
    raise ValueError(
      f"width, num_heads: expected a divisor of width {net.width}, got"
      f" {net.num_heads}"
    )
  if net.rotary and net.width // net.num_heads % 2:
    raise ValueError(
      f"width, num_heads: expected heads of even size for rotary, got"
      f" {net.width} / {net.num_heads}"
    )
