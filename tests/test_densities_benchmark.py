"""Rows of mixtures of runs, of known log-likelihoods."""

import math
import types

import numpy as np
import pytest

from benchmarks import densities

NATS = {  # of two examples, in two runs
  "0": np.array([[-1.0], [-2.0]]),
  "1": np.array([[-3.0], [-2.0]]),
}


def experiment(kind, name):
  how = types.SimpleNamespace(kind=kind, of="levels")
  data = types.SimpleNamespace(shape=(2,))
  return types.SimpleNamespace(log_likelihood=how, data=data, name=name)


@pytest.fixture(autouse=True)
def known(monkeypatch):
  read = lambda run_dir: experiment("bound", run_dir.name)
  monkeypatch.setattr(densities.trained.samples, "read", read)
  fixed = lambda ex, number: experiment("exact", ex.name)
  monkeypatch.setattr(densities, "with_fixed_orders", fixed)
  found = lambda ex, split: {"given labels": NATS[ex.name[-1]]}
  monkeypatch.setattr(densities, "nats", found)


def row_of(kind, seeds):
  found = {"test": {"log_likelihood": [dict(kind=kind)]}}
  return dict(seeds=[found] * seeds)


def figures(row):
  return [seed["test"]["log_likelihood"][0]["nats"] for seed in row["seeds"]]


def test_a_masked_model_has_rows_of_its_runs_and_their_mixture():
  found = densities.exact_rows(
    "levels", "net", "masked digits", row_of("lower bound", 2)
  )
  assert list(found) == ["net, 4 orders", "net, 4 orders, ensemble"]
  assert figures(found["net, 4 orders"]) == [-1.5, -2.5]
  each = [math.log((math.exp(-1) + math.exp(-3)) / 2), -2.0]
  (mixed,) = figures(found["net, 4 orders, ensemble"])
  np.testing.assert_allclose(mixed, np.mean(each), rtol=1e-12)
  line = found["net, 4 orders"]["seeds"][0]["validation"]["log_likelihood"][0]
  assert (line["kind"], line["condition"]) == ("exact", "given labels")
  np.testing.assert_allclose(line["bits_per_dim"], 1.5 / 2 / math.log(2))


@pytest.mark.parametrize(
  "kind, seeds, rows",
  [
    ("exact", 2, ["net, ensemble"]),
    ("exact", 1, []),
    ("lower bound", 2, []),
  ],
)
def test_other_models_have_a_mixture_of_exact_runs(kind, seeds, rows):
  row = row_of(kind, seeds)
  assert list(densities.exact_rows("binary", "net", "vae", row)) == rows


def test_names_of_runs():
  assert densities.slug("levels", "net, 4 orders", 2) == "levels-net-4-orders-2"
