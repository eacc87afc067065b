"""Pages of trainings beside torch and of encoders; the loss that both reach."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import encoders, likelihood_cost, pages, runner, trained
from benchmarks.speed import time_to_loss
from jaxgen.losses import denoising


def test_the_loss_to_reach_is_that_of_the_demo():
  """Targets are those of EDM's denoising for the noise that inputs have."""
  config = trained.edm.PRESETS["digits"][1]
  data = trained.datasets.load_data("digits")
  config = trained.diffusion.resolve(config, data)
  inputs, c, labels, target = time_to_loss.held_out(config, data)
  images, classes = data.split("validation")
  number = time_to_loss.DRAWS
  assert inputs.shape == target.shape == (number * len(images), 8, 8, 1)
  assert {a.dtype.name for a in (inputs, c, target)} == {"float32"}
  np.testing.assert_array_equal(labels[::number], classes)
  sd, model = config.sigma_data, trained.diffusion.make(config, data)
  how = dict(path=model.path, prediction=model.prediction)

  def problem(t, x, clean):
    noise = (x * jnp.sqrt(t**2 + sd**2) - clean) / t
    return noise, denoising.problem(clean, noise, t, **how)[1]

  rows = np.random.default_rng(0).choice(len(c), 200, replace=False)
  clean = np.repeat(np.float32(images), number, 0)[rows]
  t = np.exp(4 * c[rows])
  noise, truth = jax.jit(jax.vmap(problem))(t, inputs[rows], clean)
  sure = t > 0.02  # below, the noise is lost in the rounding of the inputs
  np.testing.assert_allclose(target[rows][sure], truth[sure], atol=2e-3)
  np.testing.assert_allclose(np.std(noise[sure]), 1, rtol=0.03)
  np.testing.assert_allclose(np.mean(4 * c), config.level_mean, atol=0.1)
  np.testing.assert_allclose(np.std(4 * c), config.level_std, rtol=0.05)


def test_the_first_loss_at_most_the_target_counts():
  curve = [(50, 1.0, 0.5), (100, 2.0, 0.3), (150, 3.0, 0.4), (200, 4.0, 0.2)]
  assert time_to_loss.reached(curve, 0.4) == (100, 2.0)
  assert time_to_loss.reached(curve, 0.2) == (200, 4.0)
  assert time_to_loss.reached(curve, 0.1) is None
  curves = {time_to_loss.OURS[0]: curve, "torch eager": curve[1:3]}
  record = dict(machine="one", torch=None)
  record["rows"] = [dict(seed=7, target=0.25, curves=curves)]
  parts = time_to_loss.tables(record)
  assert parts["seconds"][2:] == [
    "| 7 | 0.2500 | jaxgen, first run | 200 | 4.0 | 1.0 | 20.0 | 1.00 |",
    "| 7 | 0.2500 | torch eager | not in 150 (0.4000) | 3.0 | 2.0 | 20.0 |  |",
  ]
  assert "torch not installed" in pages.page("time_to_loss", parts)


def figures(error: float, probe: float) -> dict:
  """One training's, as result.json has them."""
  probes = dict(encodings=probe, pixels=0.98, pca=0.9, untrained=0.5)
  frechet = dict(samples=3.0, floor=1.0)
  errors = dict(rms_error=error, pca_rms_error=0.2, cosine=0.95)
  return errors | frechet | dict(probe=probes)


def test_means_over_seeds_and_goals():
  made = lambda *values: dict(
    command="train",
    seconds=3.0,
    **dict.fromkeys(("validation", "test"), *values),
  )
  rows = {
    "o-gan-0": made(figures(0.1, 0.97)),
    "o-gan-1": made(figures(0.4, 0.89)),
  }
  parts = encoders.tables(dict(machine="one", rows=rows))
  # The standard error of two values is half their difference.
  cells = "0.250 +- 0.150 | 0.200 +- 0.000 | 1.250 +- 0.750 | 0.950 +- 0.000"
  assert parts["test"][2:] == [
    f"| digits, latent 28 | 2 | {cells} | 0.930 +- 0.040 | 0.980 +- 0.000"
    " | 0.900 +- 0.000 | 0.500 +- 0.000 | 3.000 +- 0.000 | 1.000 +- 0.000 |"
  ]
  assert parts["goals"] == [
    "- digits, latent 28: of 2 trainings, goals met by the error in 1, the"
    " cosine in 2, the probe near pixels in 1, above PCA in 1, above an"
    " untrained encoder in 2."
  ]
  assert "`train`, 3 s" in pages.page("encoders", parts)


def test_rows_that_are_not_asked_for_keep_their_figures(tmp_path):
  made = []

  def measure(row):
    made.append(row)
    return dict(value=len(made))

  benchmark = runner.of_rows("some", ("a", "b"), measure, None)
  ask = lambda *words: benchmark.run(
    benchmark.parse("some", None, [f"--out={tmp_path}", *words])
  )
  first = ask("--only", "b")
  assert first["rows"] == {"b": dict(value=1)}
  (tmp_path / "some.json").write_text(json.dumps(first))
  assert list(ask("--only", "a")["rows"].items()) == [
    ("a", dict(value=2)),
    ("b", dict(value=1)),
  ]
  assert ask()["rows"] == dict(a=dict(value=3), b=dict(value=4))
  with pytest.raises(SystemExit):
    ask("--only", "c")


def test_hutchpp_at_the_error_of_24_signs():
  row = lambda trace, products, error: dict(
    trace=trace,
    num_estimates=products // 3,
    products=products,
    standard_error=error,
    exact=[0.3, 0.4, 0.5],
  )
  signs = row("hutchinson", 24, 1.0)
  rows = [row("hutchpp", n, e) for n, e in ((18, 0.9), (12, 1.0), (6, 2.0))]
  assert likelihood_cost.equal_error([signs, *rows])["products"] == 12
  assert likelihood_cost.equal_error([signs, rows[2]]) is None
  found = [
    likelihood_cost.goals(dict(cost=[], digits=[signs, *few]))[0][2:]
    for few in (rows, rows[2:])
  ]
  assert found == [
    ("0.40 (0.30-0.50)", "met"),
    ("not with 24 products", "missed"),
  ]
