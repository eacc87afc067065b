"""Sharpness of images: their power at high spatial frequencies.

  P(f) = mean over images and channels of |DFT(x)(f)|^2,   f in cycles per pixel

Squared errors reward means, which are blurred where details cannot be known. A
blurred image lacks power at high frequencies: a circular convolution with a
kernel K multiplies P(f) by |DFT(K)(f)|^2.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def spectrum(images: Float[Array, "N H W C"]) -> Float[Array, "H W"]:
  """P(f), the power of each frequency, as jnp.fft.fft2 orders them, [H, W].

  Divided by H W, so that white noise of variance v has expected power v at all
  frequencies. The discrete transform takes images as periodic: their borders
  are edges, whose power spreads over all frequencies.

  Args:
    images: [N, H, W, C], in any unit.
  """
  number = images.shape[1] * images.shape[2]
  found = jnp.abs(jnp.fft.fft2(images, axes=(1, 2))) ** 2
  return found.mean((0, 3)) / number


def high(shape: tuple[int, int], cutoff: float = 0.25) -> np.ndarray:
  """Whether |f| is at least the cutoff, for each frequency, [H, W].

  Args:
    shape: (H, W).
    cutoff: least frequency in cycles per pixel, along any direction, above 0 to
      1/2, the highest frequency along an axis.

  Raises:
    ValueError: the cutoff is out of range, or no frequency reaches it.
  """
  if not 0 < cutoff <= 0.5:
    raise ValueError(f"cutoff: expected above 0 to 0.5, got {cutoff}")
  sizes = [np.fft.fftfreq(side) for side in shape]
  found = np.hypot(sizes[0][:, None], sizes[1][None]) >= cutoff
  if not found.any():
    raise ValueError(
      f"images: expected sides with frequencies of at least {cutoff} cycles per"
      f" pixel, got {list(shape)}"
    )
  return found


def sharpness(
  made: Float[Array, "N H W C"],
  real: Float[Array, "M H2 W2 C2"],
  cutoff: float = 0.25,
) -> Float[Array, ""]:
  """Mean ratio of the power of images to that of others, in decibels.

    mean over |f| >= cutoff of 10 log10(P_made(f) / P_real(f))

  0 for images as sharp as the others, negative for blurred ones, positive for
  noisy ones. A circular blur by K has the mean of 10 log10 |DFT(K)(f)|^2,
  whatever the images. It says nothing about where the details are: noise is
  sharp.

  Args:
    made: images, such as reconstructions, [N, H, W, C].
    real: images to compare with, such as the originals, [M, H, W, C].
    cutoff: as in `high`.

  Returns:
    The ratio, []; not finite if a frequency has no power in one of the sets.

  Raises:
    ValueError: the images differ in shape, or as `high` does.
  """
  if made.shape[1:] != real.shape[1:]:
    raise ValueError(
      f"made: expected images {list(real.shape[1:])} as in real, got"
      f" {list(made.shape[1:])}"
    )
  chosen = high((real.shape[1], real.shape[2]), cutoff)
  ratios = jnp.log10(spectrum(made)) - jnp.log10(spectrum(real))
  return 10 * jnp.mean(ratios, where=chosen)
