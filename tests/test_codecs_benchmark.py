"""Paired kernel distances by a loop, and the page of a record."""

import numpy as np

from benchmarks import codecs, pages


def test_the_distance_of_pairs_is_the_mean_over_two_of_them():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 7, 3))
  k = lambda x, y: (x @ y / 3 + 1) ** 3
  terms = [
    k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(b[i], a[j])
    for i in range(7)
    for j in range(7)
    if i != j
  ]
  np.testing.assert_allclose(codecs.paired(a, b), np.mean(terms), rtol=1e-12)
  np.testing.assert_allclose(codecs.paired(a, a), 0, atol=1e-12)


def test_the_page_has_a_line_for_every_training():
  figures = dict(squared_error=0.25, sharpness=-1.5, frechet=2.0, kid=0.125)
  row = dict(command="train", seconds=3.0, size="9 bits")
  row |= dict.fromkeys(codecs.SPLITS, figures | dict(use=0.5))
  record = dict(machine="one", rows={"vqgan-photos": row})
  parts = codecs.tables(record)
  assert "| vqgan | 9 bits | 0.25000 / 0.25000 | -1.50 / -1.50 |" in str(parts)
  assert [len(parts[data]) for data in codecs.DATA] == [2 + 3, 2 + 4]
  assert str(parts).count("Not measured.") == 6
  assert "`train`, 3 s" in pages.page("codecs", parts)
