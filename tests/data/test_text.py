import jax
import numpy as np
import pytest

from jaxgen.data import text
from tests import expect

KEY = jax.random.key(0)
SAMPLE = bytes(range(256)) * 3 + b"the end"  # 775 bytes


def test_the_topics_are_those_of_python_without_repeated_paragraphs():
  from pydoc_data import topics

  found = text.topics().decode()
  parts = found.rstrip("\n").split("\n\n")
  assert len(parts) == len(set(parts)) and all(parts)
  every = [
    part.strip("\n") for t in topics.topics.values() for part in t.split("\n\n")
  ]
  assert {*every} - {""} == {*parts}
  assert found.startswith('The "assert" statement\n') and found.endswith("\n")
  assert text.topics() == found.encode()


def test_the_split_is_a_partition_in_blocks():
  parts = text.split(SAMPLE)
  assert list(parts) == list(text.SPLITS)
  rest, rebuilt = dict(parts), b""
  for i in range(text.BLOCKS):
    name = {4: "validation", 9: "test"}.get(i % 10, "train")
    size = (i + 1) * len(SAMPLE) // 100 - i * len(SAMPLE) // 100
    assert size in (7, 8)
    rebuilt += rest[name][:size]
    rest[name] = rest[name][size:]
  assert rebuilt == SAMPLE and not any(rest.values())
  said = "text: expected at least 100 bytes, got 99"
  expect.error(said, text.split, SAMPLE[:99])


@pytest.mark.parametrize("size", [8, 9, 11, 12, 13, 16, 61])
def test_every_byte_is_scored_once_with_half_a_window_before_it(size):
  body = SAMPLE[:size]
  found, given = text.windows(body, 8)
  assert found.shape == given.shape == (1 + -(-(size - 8) // 4), 8)
  assert found.dtype == np.uint8 and given.dtype == bool
  scored = b""
  for n, (window, known) in enumerate(zip(found, given, strict=True)):
    number = known.sum()
    assert not known[number:].any()  # the given bytes come first
    assert number == 0 if n == 0 else 4 <= number < 8
    context = scored[len(scored) - number :]
    assert bytes(window[:number]) == context
    scored += bytes(window[number:])
  assert scored == body


def test_batches_are_random_windows_of_the_text():
  batch_fn = text.batches(SAMPLE[:256], 100, KEY, 500)
  first = batch_fn(3)
  assert first.shape == (500, 100) and first.dtype == np.uint8
  starts = first[:, 0].astype(int)  # the bytes are 0, 1, ..., 255
  np.testing.assert_array_equal(first, starts[:, None] + np.arange(100))
  assert {*starts} <= {*range(157)} and {0, 156} & {*starts}
  counts = np.histogram(starts, np.linspace(0, 157, 5))[0]
  assert np.all(np.abs(counts - 125) < 5 * np.sqrt(125 * 0.75))
  again = text.batches(SAMPLE[:256], 100, KEY, 500)
  np.testing.assert_array_equal(first, again(3))
  assert not np.array_equal(first, batch_fn(4))
  other = text.batches(SAMPLE[:256], 100, jax.random.key(1), 500)
  assert not np.array_equal(first, other(3))


def test_tokens_have_the_same_windows():
  tokens = np.arange(400, 413, dtype=np.int32)
  found, given = text.windows(tokens, 8)
  np.testing.assert_array_equal(found[~given], tokens)
  same, known = text.windows(bytes(range(13)), 8)
  np.testing.assert_array_equal(found, 400 + same.astype(int))
  np.testing.assert_array_equal(given, known)
  assert found.dtype == np.int32
  drawn = text.batches(tokens, 4, KEY, 3)(0)
  np.testing.assert_array_equal(
    drawn, text.batches(bytes(range(13)), 4, KEY, 3)(0).astype(int) + 400
  )
  said = "text: expected at least 8 tokens in each part, got 7"
  expect.error(said, text.windows, tokens[:7], 8)


def test_what_is_wrong_is_said_in_one_line(tmp_path):
  path = tmp_path / "own.txt"
  path.write_text("déjà vu", encoding="utf-8")
  assert text.read(path) == "déjà vu".encode()
  path.write_bytes(b"")
  expect.error("own.txt: expected text, got an empty file", text.read, path)
  path.write_text("déjà vu", encoding="latin-1")
  said = "own.txt: expected text in UTF-8, got byte 0xe9 at position 1"
  expect.error(said, text.read, path)
  with pytest.raises(FileNotFoundError, match=r"none\.txt"):
    text.read(tmp_path / "none.txt")
  for length in (0, 7):
    said = f"length: expected an even number, got {length}"
    expect.error(said, text.windows, SAMPLE, length)
  said = "text: expected at least 8 bytes in each part, got 7"
  expect.error(said, text.windows, b"1234567", 8)
  expect.error(said, text.batches, b"1234567", 8, KEY, 2)
  said = "batch_size: expected at least 1, got 0"
  expect.error(said, text.batches, SAMPLE, 8, KEY, 0)
  batch_fn = text.batches(SAMPLE, 8, KEY, 1)
  expect.error("step: expected at least 0, got -1", batch_fn, -1)
  expect.error("key", text.batches, SAMPLE, 8, jax.random.PRNGKey(0), 1)
