"""Layers that the models share; each takes one example, without a batch axis.

The direction of time is the path's: a layer sees only the output of the path's
conditioning, which is about [-1.6, 1.1] for log(sigma) / 4 on the EDM path, and
[0, 1] or [0, pi / 2] for t itself on the bounded paths. All layers are smooth,
so that jvps and second derivatives exist everywhere. Parameters are float32;
`dtype` is the dtype of the activations.
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes

Implementation = Literal["xla", "cudnn"]


def spread(values, like):
  """Reshapes [C] to [1, ..., 1, C], with the same rank as `like`."""
  return jnp.reshape(values, (1,) * (like.ndim - 1) + values.shape)


def time_embedding(
  t: Float[Numeric, "*K"], dim: int, max_frequency: float = 16.0
) -> Float[Array, "features"]:
  """Sines and cosines of a time at geometric frequencies.

    [sin(w_i t), cos(w_i t)],   w_i = max_frequency^(i / (dim / 2 - 1))

  w_0 = 1 distinguishes any two times less than 2 pi apart. A high max_frequency
  resolves small steps in t, but scales up the network's derivative in t, which
  hurts losses with a jvp in t: use 4 to 5 for those.

  Args:
    t: the output of the path's conditioning, []; or several times, [K].
    dim: number of features of a time, even and at least 2.
    max_frequency: the highest angular frequency, at least 1.

  Returns:
    The features, [dim], or those of each time in turn, [K dim]; in t's dtype,
    or float32 for a Python float.

  Raises:
    ValueError: dim is odd or below 2, or max_frequency is below 1.
  """
  if dim < 2 or dim % 2:
    raise ValueError(f"dim: expected an even number above 0, got {dim}")
  if not 1 <= max_frequency < float("inf"):
    raise ValueError(f"max_frequency: expected >= 1, got {max_frequency}")
  t = jnp.asarray(t)
  t = t.astype(dtypes.wider(jnp.result_type(t, float)))
  rates = jnp.asarray(np.geomspace(1, max_frequency, dim // 2), t.dtype)
  angles = t[..., None] * jnp.reshape(rates, (1,) * t.ndim + rates.shape)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1).ravel()


def token_product(x, kernel, dimension_numbers, precision=None, **kwargs):
  """x @ kernel for tokens [L, C], as nn.Dense's dot_general.

  On CPUs this is a convolution of length 1, elsewhere the plain product. Under
  vmap the kernel's gradient sums over two axes, examples and tokens; XLA:CPU
  transposes a copy for such a product, but not for a convolution's gradient
  (jaxlib 0.10.2, 64 x 16 tokens, 128 to 512 features, one core: 2.8 to .75 ms).
  """

  def convolve(x, kernel):
    out = jax.lax.conv_general_dilated(
      x[None],
      kernel[None],
      window_strides=(1,),
      padding="VALID",
      dimension_numbers=("NHC", "HIO", "NHC"),
      precision=precision,
      **kwargs,
    )
    return out[0]

  def multiply(x, kernel):
    return jax.lax.dot_general(
      x, kernel, dimension_numbers, precision=precision, **kwargs
    )

  return jax.lax.platform_dependent(x, kernel, cpu=convolve, default=multiply)


def check_settings(num_classes, dropout, label):
  """Raises for settings or labels that are invalid for every model."""
  if num_classes < 0:
    raise ValueError(f"num_classes: expected >= 0, got {num_classes}")
  if not 0 <= dropout < 1:
    raise ValueError(f"dropout: expected 0 <= dropout < 1, got {dropout}")
  if label is not None and not num_classes:
    raise ValueError("label: expected None, as num_classes is 0, got a label")


class LabelEmbedding(nn.Module):
  """A learned vector for each class, and one for the null label.

  Attributes:
    num_classes: number of classes, and the index of the null label.
    features: length of the vector.
    dtype: dtype of the vector; the table is float32.
  """

  num_classes: int
  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, label: Int[Numeric, ""] | None = None
  ) -> Float[Array, "features"]:
    """The vector of a label.

    Args:
      label: [], in [0, num_classes]; None and num_classes are the null label.
        A traced label outside that range counts as the null label.

    Returns:
      The vector, [features].

    Raises:
      ValueError: a concrete label is outside of [0, num_classes].
    """
    null = self.num_classes
    index: Any = null if label is None else label
    if not isinstance(index, jax.core.Tracer) and not 0 <= int(index) <= null:
      raise ValueError(f"label: expected 0 to {null}, got {int(index)}")
    known = jnp.logical_and(index >= 0, index <= null)
    embed = nn.Embed(null + 1, self.features, dtype=self.dtype, name="table")
    return embed(jnp.where(known, index, null))


class GroupNorm(nn.Module):
  """Normalises groups of channels over all positions of one example.

    y = (gain (x - m) / sqrt(v + epsilon) + bias) (1 + scale) + shift

  with m, v the mean and variance of a group. They come from one reduction over
  positions and a product with the matrix that averages within groups, and
  combine with scale and shift into one multiply-add. The reduction is over
  x - c, with c the group's mean at the first position. v and its derivatives do
  not depend on c, but E(x - c)^2 - (m - c)^2 keeps the digits that
  E x^2 - m^2 loses where m^2 >> v. Computed in float32 (float64 for float64).

  Tolerance, against NumPy in float64 on the same float32 input with spread 1:
  2e-6 at mean 0, and 2e-7 |mean| beyond, which is the rounding of x itself.
  Where the first position is D standard deviations from the mean, v has a
  relative error of 1e-6 D^2.

  Attributes:
    num_groups: number of groups, reduced to the number of channels if larger;
      must divide the channels.
    epsilon: constant added to the variance.

  Reference: Wu and He 2018, arXiv:1803.08494.
  """

  num_groups: int = 32
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "*D C"],
    scale: Float[Array, "C"] | None = None,
    shift: Float[Array, "C"] | None = None,
  ) -> Float[Array, "*D C"]:
    """Normalises one example.

    Args:
      x: the example, [*D, C], without a batch axis.
      scale: multiplies the normalised values as 1 + scale, [C].
      shift: added last, [C].

    Returns:
      The normalised example, [*D, C], in x's dtype.

    Raises:
      ValueError: num_groups does not divide the channels.
    """
    channels = x.shape[-1]
    groups = min(self.num_groups, channels)
    if groups < 1 or channels % groups:
      raise ValueError(
        f"num_groups: expected a divisor of {channels} channels, got {groups}"
      )
    gain = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
    return _normalised(x, gain, bias, scale, shift, groups, self.epsilon)


# Traced once for all layers of a shape: a sixth of the tracing of a step.
@functools.partial(jax.jit, static_argnums=(5, 6), inline=True)
def _normalised(x, gain, bias, scale, shift, groups, epsilon):
  """GroupNorm's equation."""
  dtype = dtypes.wider(x.dtype)
  wide = x.astype(dtype)
  mean, variance = group_moments(wide, groups)
  scale = jnp.ones((), dtype) if scale is None else 1 + scale.astype(dtype)
  shift = jnp.zeros((), dtype) if shift is None else shift.astype(dtype)
  k = gain * scale * jax.lax.rsqrt(variance + epsilon)
  offset = bias * scale + shift - mean * k
  return (wide * spread(k, x) + spread(offset, x)).astype(x.dtype)


def group_moments(x, groups):
  """Mean and variance of each channel's group over all positions, [C] each."""
  channels = x.shape[-1]
  group = jnp.arange(channels) // (channels // groups)
  same = (group[:, None] == group[None, :]).astype(x.dtype)
  average = lambda values: jnp.matmul(
    values, same * (groups / channels), precision="highest"
  )
  first = x[(0,) * (x.ndim - 1)]
  center = jax.lax.stop_gradient(average(first))
  axes = tuple(range(x.ndim - 1))
  y = x - spread(center, x)
  m, q = average(jnp.stack([y.mean(axes), (y * y).mean(axes)]))
  return m + center, q - m * m


def attend(x, num_heads, implementation):
  """Attention of all positions of queries, keys and values [L, 3 C]: [L, C]."""
  length, width = x.shape[0], x.shape[1] // 3
  heads = length, num_heads, width // num_heads
  # The gradient of a split is one concatenation, of three slices it is a sum.
  query, key, value = (part.reshape(heads) for part in jnp.split(x, 3, -1))
  h = jax.nn.dot_product_attention(
    query, key, value, implementation=implementation
  )
  return h.reshape(length, width)


class Attention(nn.Module):
  """Residual self-attention among the positions of one example.

    x + Dense(softmax(q k^T / sqrt(C / heads)) v),   q, k, v = Dense(norm(x))

  The last Dense starts at zero, so the layer starts as the identity.

  Attributes:
    num_heads: number of heads; must divide the channels.
    num_groups: number of groups of the normalisation.
    implementation: "xla", or "cudnn", which is fast on NVIDIA GPUs in half
      precision but has no forward mode (no jvp).
    dtype: dtype of the activations.
  """

  num_heads: int = 1
  num_groups: int = 32
  implementation: Implementation = "xla"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "*D C"]) -> Float[Array, "*D C"]:
    """Applies attention to one example.

    Args:
      x: the example, [*D, C]: all positions of D attend to one another.

    Returns:
      The example, [*D, C].

    Raises:
      ValueError: num_heads does not divide the channels.
    """
    channels = x.shape[-1]
    if self.num_heads < 1 or channels % self.num_heads:
      raise ValueError(
        f"num_heads: expected a divisor of {channels} channels, "
        f"got {self.num_heads}"
      )
    h = GroupNorm(self.num_groups, name="norm")(x)
    h = nn.Dense(3 * channels, dtype=self.dtype, name="qkv")(h)
    h = attend(h.reshape(-1, 3 * channels), self.num_heads, self.implementation)
    out = nn.Dense(
      channels,
      dtype=self.dtype,
      kernel_init=nn.initializers.zeros,
      name="out",
    )
    return x + out(h.reshape(x.shape))
