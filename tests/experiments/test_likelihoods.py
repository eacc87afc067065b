"""The evaluator of log-likelihoods, on models whose answer is known."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from scipy import stats

from experiments import autoregressive, masked
from experiments.experiment import LogLikelihood
from experiments.lib import datasets, likelihoods
from experiments.pictures import figures
from jaxgen import outputs
from jaxgen.training import logging
from tests.experiments import scripts

OUTPUT = outputs.bernoulli()


def of_labels(params, extras, key, x, label):
  """Pixels are independent given the label, with the logit params[label]."""
  logit = jnp.full((*x.shape, 1), params[label])
  return OUTPUT.log_prob(logit, outputs.to_levels(x, 2)).sum()


def noisy(params, extras, key, x, label):
  return -params * jax.random.exponential(key)


def digits_run(how, **changes):
  """The experiment of a script with another log-likelihood."""
  ex = scripts.SCRIPTS["gan"]
  ex = ex.module.experiment(scripts.small("gan", "unused"))
  data = datasets.load_data("binary_digits")._replace(**changes)
  return ex._replace(data=data, log_likelihood=how)


def measured(ex, params, chunk=7):
  measure = likelihoods.measurer(ex, "validation", chunk)
  return measure(params, {}, jax.random.key(0))


def test_given_labels_and_the_mixture_over_them():
  logits = jnp.linspace(-1.0, 1.0, 10)
  rows = measured(
    digits_run(LogLikelihood("exact", "levels", of_labels)), logits
  )
  assert [row.condition for row in rows] == [
    "given labels",
    "mixture over labels",
  ]
  images, labels = datasets.load_data("binary_digits").split("validation")
  ones = (images > 0).reshape(180, -1).sum(1)
  p = 1 / (1 + np.exp(-np.asarray(logits, float)))
  each = ones[:, None] * np.log(p) + (64 - ones[:, None]) * np.log(1 - p)
  given = each[np.arange(180), labels]
  mixture = np.log(np.exp(each).mean(1))
  for row, truth in zip(rows, (given, mixture), strict=True):
    assert (row.kind, row.of, row.draw_error) == ("exact", "levels", 0)
    np.testing.assert_allclose(row.nats, truth.mean(), rtol=1e-5)
    np.testing.assert_allclose(row.standard_error, stats.sem(truth), rtol=1e-4)
    np.testing.assert_allclose(
      row.bits_per_dim, -truth.mean() / (64 * math.log(2)), rtol=1e-5
    )


def test_draws_are_averaged_and_their_error_is_reported():
  how = LogLikelihood("lower bound", "levels", noisy, num_draws=16)
  (row,) = measured(digits_run(how, num_classes=0), jnp.float32(2.0))
  assert row.condition == "without labels" and row.kind == "lower bound"
  # The mean of 180 x 16 exponentials of mean and standard deviation 2.
  np.testing.assert_allclose(row.draw_error, 2 / math.sqrt(180 * 16), rtol=0.1)
  assert abs(row.nats + 2) < 4 * row.draw_error
  np.testing.assert_allclose(row.standard_error, row.draw_error, rtol=0.2)


def test_chunks_change_nothing():
  how = LogLikelihood("lower bound", "levels", noisy, num_draws=2)
  ex = digits_run(how, num_classes=0)
  assert measured(ex, jnp.float32(1.0), 7) == measured(
    ex, jnp.float32(1.0), 180
  )


def test_a_toy_has_the_true_density_beside_it():
  ex = digits_run(
    LogLikelihood("exact", "density", lambda *args: 0.0 * args[3].sum())
  )
  ex = ex._replace(data=datasets.load_data("gaussian"))
  row, truth = measured(ex, jnp.float32(0.0), 500)
  assert row.nats == 0 and truth.condition == "true density"
  entropy = stats.multivariate_normal(np.zeros(2)).entropy()
  np.testing.assert_allclose(truth.nats, -entropy, atol=0.1)


def test_a_run_records_them(tmp_path):
  directory, _ = scripts.trained("tarflow", tmp_path, validate_every=3)
  records = logging.read(directory / "metrics.jsonl")
  names = {name for record in records for name in record}
  labels = "given labels", "mixture over labels", "without labels"
  assert names > {f"log_likelihood/{label}" for label in labels}
  figures.curves(tmp_path / "found.png", records)
  pixels = matplotlib.image.imread(tmp_path / "found.png")
  assert pixels.shape[1] > 2 * pixels.shape[0]  # three panels


def test_the_table_names_kinds():
  row = likelihoods.Row("given labels", "exact", "levels", -16.5, 0.2, 0, 0.372)
  text = likelihoods.table([row])
  for part in ("given labels", "exact", "-16.500 +- 0.200", "0.3720", "levels"):
    assert part in text


@pytest.mark.parametrize("module", [autoregressive, masked])
def test_a_model_that_drops_all_labels_has_one_row(module):
  config = dataclasses.replace(
    module.PRESETS["smoke"][1], data="binary_digits", label_dropout=1.0
  )
  ex = module.experiment(config)
  params = {"model": ex.players(jax.random.key(0))["model"]}
  small = ex._replace(data=ex.data._replace(split=_first(ex.data.split, 8)))
  rows = likelihoods.measurer(small, "test")(params, {}, jax.random.key(0))
  assert [row.condition for row in rows] == ["without labels"]


def _first(split, number):
  def some(name):
    return tuple(x if x is None else x[:number] for x in split(name))

  return some


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_binary_digits_are_the_thresholded_digits(split):
  binary, labels = datasets.load_data("binary_digits").split(split)
  gray, same = datasets.load_data("digits").split(split)
  np.testing.assert_array_equal(labels, same)
  np.testing.assert_array_equal(binary == 1, (gray + 1) * 8 >= 8)
  assert set(np.unique(binary)) == {-1.0, 1.0}
