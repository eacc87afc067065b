"""Codebooks of vector quantisation, as functions of sets of vectors [N, D].

A codebook [K, D] is learned without gradients by moving averages of how many
vectors each code is nearest to, N_k, and of their sum, M_k:

  N_k <- decay N_k + (1 - decay) n_k,   M_k <- decay M_k + (1 - decay) m_k
  c_k = M_k / N_k

With decay 0 and all the data as the set, one update is one iteration of
Lloyd's algorithm (k-means). The statistics are explicit: a function takes them
and returns new ones. A batch of feature maps is one set, reshaped to [N, D];
the codebooks of several stages are updated under vmap.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num

from jaxgen import dtypes, keys


class Statistics(NamedTuple):
  """Moving averages that start at zero.

  Attributes:
    weight: the sum of the weights of all sets so far, 1 - decay^updates, [].
      Divided by it, counts and sums are weighted means over the sets.
    counts: N, vectors of each code, [K].
    sums: M, their sum, [K, D].
  """

  weight: Float[Array, ""]
  counts: Float[Array, "K"]
  sums: Float[Array, "K D"]


class Entropies(NamedTuple):
  """Entropies of soft assignments, in nats.

  Attributes:
    mean: E H(q), [].
    of_mean: H(E q), [].
  """

  mean: Float[Array, ""]
  of_mean: Float[Array, ""]


def start(codebook: Float[Array, "K D"]) -> Statistics:
  """The statistics before the first set: zeros, of float32 or wider."""
  dtype = dtypes.wider(codebook.dtype)
  zeros = lambda *shape: jnp.zeros(shape, dtype)
  return Statistics(zeros(), zeros(len(codebook)), zeros(*codebook.shape))


def update(
  statistics: Statistics,
  z: Float[Array, "N D"],
  indices: Num[Array, "..."],
  decay: Float[ArrayLike, ""],
) -> Statistics:
  """The statistics after one more set of vectors.

  Args:
    statistics: those before.
    z: the vectors, [N, D]. Nothing is differentiated.
    indices: their codes, integers from 0 to K - 1, [N].
    decay: in [0, 1); 0 forgets all sets but this one.

  Raises:
    ValueError: decay is outside [0, 1), or the shapes do not agree.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, appendix A.1.
  """
  _check("decay", decay, "a number in [0, 1)", lambda x: 0 <= x < 1)
  num, width = statistics.sums.shape
  if z.shape[1] != width:
    raise ValueError(f"z: expected shape [N, {width}], got {list(z.shape)}")
  if indices.shape != z.shape[:1]:
    raise ValueError(
      f"indices: expected shape [{len(z)}], got {list(indices.shape)}"
    )
  vectors = jax.lax.stop_gradient(z).astype(statistics.sums.dtype)
  ones = jnp.ones_like(vectors[:, 0])
  new = Statistics(
    jnp.ones_like(statistics.weight),
    jax.ops.segment_sum(ones, indices, num),
    jax.ops.segment_sum(vectors, indices, num),
  )
  mean = lambda old, new: decay * old + (1 - decay) * new
  return jax.tree.map(mean, statistics, new)


def means(
  statistics: Statistics,
  codebook: Float[Array, "K D"],
  smoothing: Float[ArrayLike, ""],
) -> Float[Array, "K D"]:
  """The new codebook: the mean of the vectors of each code.

    c_k = M_k / N'_k,   N'_k = (N_k + smoothing) / (N + K smoothing) N,
    N = sum_k N_k

  with N and M divided by the statistics' weight, so that Laplace's smoothing
  has the same meaning in the first step as later. It draws the code of fewer
  vectors than it toward 0. A code that no vector has ever had keeps its place.

  Args:
    statistics: as `update` returns them.
    codebook: the codebook before, [K, D].
    smoothing: at least 0, a number of vectors; 0 gives exact means, 1e-5 is
      usual.

  Raises:
    ValueError: smoothing is negative.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, appendix A.1; the
  smoothing is that of the authors' program.
  """
  _check("smoothing", smoothing, "at least 0", lambda x: x >= 0)
  counts, sums = _unbiased(statistics)
  total = jnp.sum(counts)
  rest = total + len(counts) * smoothing
  smooth = (counts + smoothing) * (total / jnp.where(rest > 0, rest, 1))
  seen = (counts > 0)[:, None]
  new = sums / jnp.where(seen, smooth[:, None], 1)
  return jnp.where(seen, new.astype(codebook.dtype), codebook)


def restart(
  codebook: Float[Array, "K D"],
  statistics: Statistics,
  replacements: Float[Array, "..."],
  threshold: Float[ArrayLike, ""],
) -> tuple[Float[Array, "K D"], Statistics]:
  """Gives each code of few vectors a new place.

  A code with N_k below the threshold becomes the replacement of its row, as if
  this vector had been seen threshold times, so that it has time to find others.

  Args:
    codebook: codes, [K, D].
    statistics: theirs.
    replacements: new places, [K, D]; jax.random.choice(key, z, (K,)) draws them
      from the current vectors z [N, D].
    threshold: positive, in vectors per set.

  Returns:
    The new codebook and its statistics.

  Raises:
    ValueError: replacements have another shape, or the threshold is not
      positive.

  Reference: Dhariwal et al. 2020, arXiv:2005.00341, section 3.
  """
  if replacements.shape != codebook.shape:
    raise ValueError(
      f"replacements: expected shape {list(codebook.shape)}, got"
      f" {list(replacements.shape)}"
    )
  _check("threshold", threshold, "a positive number", lambda x: x > 0)
  weight, counts, sums = statistics
  dead = _unbiased(statistics)[0] < threshold
  row = dead[:, None]
  grace = threshold * weight
  new = Statistics(
    weight,
    jnp.where(dead, grace, counts),
    jnp.where(row, grace * replacements.astype(sums.dtype), sums),
  )
  return jnp.where(row, replacements.astype(codebook.dtype), codebook), new


def usage(counts: Num[Array, "K"]) -> Float[Array, ""]:
  """The fraction of codes used, of counts jnp.bincount(indices, length=K)."""
  return jnp.mean(counts > 0)


def perplexity(counts: Num[Array, "K"]) -> Float[Array, ""]:
  """exp(H) of the codes' frequencies: K if all are alike, 1 if one is used.

  Args:
    counts: at least 0, not all 0: jnp.bincount(indices, length=K), or those of
      Statistics.
  """
  frequencies = counts / jnp.sum(counts)
  return jnp.exp(jnp.sum(jax.scipy.special.entr(frequencies)))


def kmeans_plus_plus(
  key: Array, data: Float[Array, "N D"], num_codes: int
) -> Float[Array, "K D"]:
  """A first codebook: rows of the data that are far from each other.

  The first row is uniform, and each next one is drawn with a probability
  proportional to its squared distance to the nearest row so far.

  Args:
    key: a typed key.
    data: vectors, [N, D].
    num_codes: K, from 1 to N. With fewer distinct rows, some codes are equal.

  Raises:
    ValueError: key is not a typed key, or num_codes is not in 1, ..., N.

  Reference: Arthur and Vassilvitskii 2007, "k-means++: the advantages of
  careful seeding".
  """
  keys.require_typed(key)
  if not 1 <= num_codes <= len(data):
    raise ValueError(f"num_codes: expected 1 to {len(data)}, got {num_codes}")
  first_key, next_key = jax.random.split(key)
  first = data[jax.random.randint(first_key, (), 0, len(data))]
  square = lambda code: jnp.sum((data - code[None]) ** 2, axis=1)

  def add(distances, n):
    key, logits = jax.random.fold_in(next_key, n), jnp.log(distances)
    code = data[jax.random.categorical(key, logits, mode="high")]
    return jnp.minimum(distances, square(code)), code

  _, others = jax.lax.scan(add, square(first), jnp.arange(num_codes - 1))
  return jnp.concatenate([first[None], others])


def lfq_entropies(
  z: Float[Array, "N B"], temperature: Float[ArrayLike, ""], group_size: int
) -> Entropies:
  """How clear and how even the sign codes of a set are (quantizers.lfq).

    q(c | z) = softmax_c(-|z - c|^2 / temperature)
             = prod_i sigmoid(4 z_i c_i / temperature),   c in {-1, 1}^B

  The bits are independent given z, so E H(q) = E sum_i H(q_i) exactly. In the
  mean over z they are not: H(E q) needs a table of all codes, and is exact if
  group_size is B. With smaller groups of bits, the sum of the groups' entropies
  is an upper bound. The loss of the paper is mean - of_mean.

  Args:
    z: a set of vectors, [N, B].
    temperature: positive.
    group_size: number of consecutive bits in a group, a divisor of B. The table
      has N B / group_size 2^group_size numbers.

  Raises:
    ValueError: temperature is not positive, or group_size does not divide B.

  Reference: Yu et al. 2023, arXiv:2310.05737, section 3.1.
  """
  num, width = z.shape
  _check("temperature", temperature, "a positive number", lambda x: x > 0)
  if group_size < 1 or width % group_size:
    raise ValueError(
      f"group_size: expected a divisor of {width}, got {group_size}"
    )
  logits = 4 * z / temperature
  size = jnp.abs(logits)
  each = jax.nn.softplus(-size) + size * jax.nn.sigmoid(-size)
  bits = jax.nn.log_sigmoid(jnp.stack([-logits, logits], axis=-1))
  bits = bits.reshape(num, -1, group_size, 2)
  table = bits[:, :, 0]  # log q of the codes of the first bits of each group
  for i in range(1, group_size):
    table = bits[:, :, i, :, None] + table[:, :, None]
    table = table.reshape(num, -1, 2 ** (i + 1))
  log_q = jax.nn.logsumexp(table, axis=0) - math.log(num)
  of_mean = -jnp.sum(jnp.exp(log_q) * log_q)
  return Entropies(jnp.sum(each) / num, of_mean)


def _check(name, value, expected, fine):
  if not isinstance(value, jax.core.Tracer) and not fine(value):
    raise ValueError(f"{name}: expected {expected}, got {value}")


def _unbiased(statistics):
  """Counts and sums as weighted means over the sets so far."""
  weight = jnp.where(statistics.weight > 0, statistics.weight, 1)
  return statistics.counts / weight, statistics.sums / weight
