"""experiments.encode: round trips, latents and labels against closed forms."""

import functools
import types

import jax
import jax.numpy as jnp
import jax.test_util
import matplotlib.image
import numpy as np
import pytest

from experiments import edm, encode
from experiments.lib import averages, choices, datasets
from experiments.lib import run as runs
from experiments.pictures import figures, pyplot
from experiments.recipes import diffusion, latents
from jaxgen import fields, paths, predictions, samplers
from tests import expect
from tests.experiments import scripts

LOW, HIGH = 0.002, 80.0


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  directory = tmp_path_factory.mktemp("encode") / "digits"
  sizes = dict(model="mlp", num_steps=2, warmup_steps=1)
  return scripts.trained("edm images", directory, **sizes)[0]


def _zeros(ex, **kwargs):
  like = jax.eval_shape(lambda: ex.players(jax.random.key(0)))
  return jax.tree.map(jnp.zeros_like, like), {}


def _run(directory, **settings):
  return encode.run(str(directory), encode.Config(**settings))


def _slerp(a, b, weight):
  """By the arc cosine, in float64."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  lengths = np.linalg.norm(a) * np.linalg.norm(b)
  angle = np.arccos(np.sum(a * b) / lengths)
  parts = np.sin((1 - weight) * angle), np.sin(weight * angle)
  return (parts[0] * a + parts[1] * b) / np.sin(angle)


def test_spherical_is_the_great_circle():
  a, b = jax.random.normal(jax.random.key(0), (2, 4, 3, 2))
  b *= jnp.linalg.norm(a.ravel()) / jnp.linalg.norm(b.ravel())
  weights = jnp.array([0.0, 0.25, 0.6, 1.0])
  found = jax.jit(jax.vmap(latents.spherical, (None, None, 0)))(a, b, weights)
  expected = [_slerp(a, b, float(weight)) for weight in weights]
  np.testing.assert_allclose(found, expected, atol=1e-6)
  found = np.asarray(found, np.float64).reshape(4, -1)
  norms = np.linalg.norm(found, axis=1)
  np.testing.assert_allclose(norms, norms[0], rtol=1e-6)
  angles = np.arccos(found[1:] @ found[0] / norms[0] ** 2)
  np.testing.assert_allclose(angles / angles[-1], weights[1:], rtol=1e-5)
  for weight, end in ((0.0, a), (1.0, b)):
    np.testing.assert_array_equal(latents.spherical(a, b, weight), end)


def test_spherical_of_unequal_norms():
  a, b = jnp.array([3.0, 0.0]), jnp.array([0.0, 0.5])
  half = np.sqrt(0.5) * np.array([3.0, 0.5])
  np.testing.assert_allclose(latents.spherical(a, b, 0.5), half, rtol=1e-6)


def test_spherical_near_and_far():
  """Equal, equal to rounding, near and far ends: the value and its gradient."""
  with jax.enable_x64(True):
    a, step = jax.random.normal(jax.random.key(1), (2, 5), jnp.float64)
    between = jax.jit(latents.spherical)
    for apart in (0.0, 1e-10, 1e-3, 1.0):
      b, weight = a + apart * step, jnp.array(0.3)
      expected = _slerp(a, b, 0.3) if apart == 1 else 0.7 * a + 0.3 * b
      found, atol = between(a, b, weight), max(apart**2, 1e-15)
      np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
      jax.test_util.check_grads(between, (a, b, weight), 1, rtol=1e-5)


def test_spherical_has_no_jump_where_it_becomes_linear():
  a = jnp.array([1.0, 0.0])
  for angle in (1e-4, 3e-4, 4e-4, 1e-3):
    b = jnp.array([np.cos(angle), np.sin(angle)], jnp.float32)
    expected = [np.cos(0.5 * angle), np.sin(0.5 * angle)]
    found = latents.spherical(a, b, 0.5)
    np.testing.assert_allclose(found, expected, rtol=3e-7)


def test_points_of_a_gaussian(tmp_path, monkeypatch, capsys):
  """A network of zeros is the denoiser of N(0, sd^2), whose flow is a scale."""
  config = scripts.small("edm", tmp_path, data="moons", sigma_data=1.5)
  with runs.open_directory(config, edm.__file__):
    monkeypatch.setattr(averages, "load", _zeros)
  found = _run(tmp_path, number=5, between=5, sample_path="linear")
  scale = np.hypot(1.5, HIGH) / np.hypot(1.5, LOW) / HIGH
  latents = scale * found.examples
  np.testing.assert_allclose(found.latents, latents, rtol=1e-4)
  np.testing.assert_allclose(found.decoded, found.examples, rtol=1e-4)
  between = [
    [_slerp(a, b, j / 4) / scale for j in range(5)]
    for a, b in zip(latents, scale * found.partners, strict=True)
  ]
  held = datasets.load(config).real[0]
  np.testing.assert_array_equal(found.partners, held[1:6])
  expect.close(found.interpolations, np.array(between), rtol=1e-3, atol=1e-3)
  error = np.abs(found.decoded - found.examples)
  line = capsys.readouterr().err.splitlines()[-1]
  assert f"5 examples, decoding error {error.max():.1e} at most" in line
  assert f"{np.sqrt(np.mean(error**2)):.1e} RMS" in line
  stored = scripts.stored(tmp_path / "encoded.npz")
  assert set(stored) == set(encode.Encoded._fields)
  for name in stored:
    np.testing.assert_array_equal(stored[name], getattr(found, name))
  assert matplotlib.image.imread(tmp_path / "encoded.png").std() > 0.03


def test_images_come_back(images, monkeypatch):
  kept = []
  monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure))
  found = _run(images, number=7, between=5)
  np.testing.assert_allclose(found.decoded, found.examples, atol=1e-3)
  ends = np.stack([found.decoded, found.partners], 1)
  between = found.interpolations[:, [0, -1]]
  np.testing.assert_allclose(between, ends, atol=1e-3)
  data = datasets.load_data("digits")
  np.testing.assert_array_equal(found.examples, data.real[0][:7])
  stored = scripts.stored(images / "encoded.npz")
  np.testing.assert_array_equal(stored["labels"], data.real[1][:7])

  top, bottom = kept[0].axes
  assert top.get_title() == "held-out examples, and decoded from their latents"
  rows = ["held out", "decoded", "held out", "decoded"]
  assert [text.get_text() for text in top.get_yticklabels()] == rows
  white = np.ones((3, 8, 8, 1))
  pairs = [found.examples[:5], found.decoded[:5]]
  for x in (found.examples, found.decoded):
    pairs.append(np.concatenate([x[5:], white]))
  above = figures.sheet(np.stack(pairs))
  np.testing.assert_array_equal(top.images[0].get_array(), above)
  classes = [text.get_text() for text in bottom.get_yticklabels()]
  assert classes == [str(label) for label in stored["labels"]]
  below = figures.sheet(found.interpolations)
  np.testing.assert_array_equal(bottom.images[0].get_array(), below)
  weights = [text.get_text() for text in bottom.get_xticklabels()]
  assert weights == ["0", "0.25", "0.5", "0.75", "1"]
  assert bottom.get_title().endswith("the next example of the same class")
  pyplot.close("all")


def test_a_partner_is_the_next_example_of_the_class():
  images, labels = np.arange(7.0), np.array([2, 0, 2, 5, 0, 2, 9])
  data = types.SimpleNamespace(real=(images, labels), num_classes=10)
  found, partners, own = encode._held_out(data, 7)
  np.testing.assert_array_equal(found, images)
  np.testing.assert_array_equal(partners, [2, 4, 5, 3, 1, 0, 6])
  np.testing.assert_array_equal(own, labels)
  _, partners, own = encode._held_out(data, 3)
  np.testing.assert_array_equal(partners, [2, 4, 5])
  data = types.SimpleNamespace(real=(images, None), num_classes=0)
  _, partners, own = encode._held_out(data, 7)
  np.testing.assert_array_equal(partners, [1, 2, 3, 4, 5, 6, 0])
  assert own is None


def test_all_points_of_a_row_have_the_label_of_its_example(images, monkeypatch):
  """Data that are the label: x - label grows in proportion to t."""

  def field(model, params, label):
    predict_fn = lambda x, t: jnp.full_like(x, label)
    return fields.from_prediction(predict_fn, model.path, predictions.data)

  monkeypatch.setattr(diffusion.Diffusion, "field", field)
  found = _run(images, number=4, between=4, steps=16)
  labels = scripts.stored(images / "encoded.npz")["labels"]
  assert len(set(labels)) > 1
  lift = labels.reshape(-1, 1, 1, 1)
  encoded = lambda x: lift / HIGH + (x - lift) / LOW
  latents, others = encoded(found.examples), encoded(found.partners)
  np.testing.assert_allclose(found.latents, latents, rtol=1e-4, atol=1e-2)
  for i in range(4):
    for j in range(4):
      between = _slerp(latents[i], others[i], j / 3)
      expected = labels[i] + LOW * (between - labels[i] / HIGH)
      expect.close(found.interpolations[i, j], expected, atol=5e-4)


def test_solvers_are_those_that_draw_nothing_and_run_up():
  """The list, solver by solver: bits that are drawn are in the program."""
  path = paths.edm()
  data_fn = lambda x, t: x / (1 + t**2)
  field = fields.from_prediction(data_fn, path, predictions.data)
  times = samplers.grids.karras(path, 5)[::-1]
  found = set()
  for name, make in choices.SOLVERS.items():
    run = functools.partial(
      samplers.integrate, make(1.0), field, jnp.ones(2), times
    )
    try:
      program = jax.make_jaxpr(run)(jax.random.key(0))
    except ValueError:  # it only runs down
      continue
    found |= set() if "random_bits" in str(program) else {name}
  assert found == set(choices.FLOW_SOLVERS)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"number": 1}, "number: expected at least 2, got 1"),
    ({"number": 181}, "number: expected at most 180, the number of held-out"),
    ({"between": 1}, "between: expected at least 2, got 1"),
    ({"steps": 0}, "steps: expected at least 1, got 0"),
    ({"name": "../up"}, "name: expected a bare file name"),
    ({"solver": "typo"}, "solver: expected one of"),
    ({"solver": "churn"}, r"deterministic solver \(euler.*got 'churn'"),
    ({"solver": "euler_maruyama"}, "deterministic .* got 'euler_maruyama'"),
    ({"grid": "typo"}, "grid: expected one of"),
    ({"average": "0.5"}, "average: expected 0.999"),
  ],
)
def test_bad_settings_are_refused(images, change, message):
  before = set(images.iterdir())
  expect.error(message, _run, images, **{"name": "refused"} | change)
  assert set(images.iterdir()) == before
