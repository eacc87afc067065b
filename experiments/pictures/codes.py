"""Pictures of a codebook: how often each of its codes is used."""

import pathlib
from collections.abc import Mapping

import numpy as np

from experiments.pictures import figures
from experiments.pictures import pyplot as plt


def usage(path: pathlib.Path, counts: Mapping[str, np.ndarray]) -> None:
  """Draws the sorted frequencies of codes beside equal ones.

  Args:
    path: the file.
    counts: {split: how often each code is used, [M, K]}; one curve for each of
      the M stages.
  """
  figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
  for n, (split, table) in enumerate(counts.items()):
    for stage, row in enumerate(table):
      shares = np.sort(row)[::-1] / row.sum()
      used = int((row > 0).sum())
      name = f"{split}: {used} of {len(row)} codes"
      if len(table) > 1:
        name += f", stage {stage + 1}"
      ranks = np.arange(1, used + 1)
      how = dict(color=f"C{stage}", linestyle=("-", "--", ":")[n % 3])
      axis.plot(ranks, shares[:used], ".", markersize=3, color=how["color"])
      axis.plot(ranks, shares[:used], linewidth=1, label=name, **how)
  size = table.shape[1]
  axis.axhline(1 / size, color="0.6", linewidth=0.8, label="equal frequencies")
  axis.set(xlabel="rank of the code", ylabel="frequency", yscale="log")
  axis.set_xlim(0, size + 1)
  axis.set_title("frequencies of the codes, those in use", fontsize=10)
  axis.legend(frameon=False, fontsize=8)
  figures.save(figure, path)
