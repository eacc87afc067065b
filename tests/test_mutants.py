"""The mutants benchmark: what it changes, the tests it runs, what it counts."""

import io
import itertools
import tokenize

from benchmarks.checks import mutants, mutations
from tests import expect

SOURCE = '''"""One 1 + 2."""
import numpy as np  # 3 - 4
from a import max as b


class Kept:
  size: "1 + 1" = 2


def f(data, noise, axis: int = -1) -> "2 * 3":
  """Less than 5 < 6."""
  if not (data) <= noise and axis is not None:
    raise ValueError(f"axis: expected {1 + 1}" + "2" * 3)
  axis += 10
  é, x = 0.5, np.zeros_like(data[1:], keepdims=True)
  return é * 1.0 // min(x[:-1], 0) @ (data.alpha ** 0.0)
'''
# By line, of the source above: old -> new.
CHANGES = {
  7: "2 -> 3",
  10: "- -> ; 1 -> 0; 1 -> 2",
  12: "not -> ; data -> noise; noise -> data; <= -> <; <= -> >; and -> or"
  "; is not -> is",
  14: "+= -> -=; 10 -> 11",
  15: "0.5 -> 0.505; zeros_like -> ones_like; data -> noise; 1: -> :-1; 1 -> 0"
  "; 1 -> 2; True -> False",
  16: "* -> /; 1.0 -> 0.0; 1.0 -> 1.01; // -> *; min -> max; :-1 -> 1:; - -> "
  "; 1 -> 0; 1 -> 2; 0 -> 1; @ -> *; data -> noise; alpha -> sigma; ** -> *"
  "; 0.0 -> 1.0",
}


def words(source):
  tokens = tokenize.generate_tokens(io.StringIO(source).readline)
  return [token.string for token in tokens]


def every(source):
  found = mutations.sites(source, "jaxgen/a.py")
  return [(s, m) for s in found for m in mutations.mutants(source, s)]


def test_what_is_changed_and_what_is_not():
  found = {}
  for _, mutant in every(SOURCE):
    change = f"{mutant.old} -> {mutant.new}"
    found.setdefault(mutant.line, set()).add(change)
  assert found == {n: {*text.split("; ")} for n, text in CHANGES.items()}


def test_a_mutant_is_python_and_differs_in_its_token():
  for site, mutant in every(SOURCE):
    changed = mutations.mutate(SOURCE, site, mutant.new)
    compile(changed, "a.py", "exec")
    assert changed != SOURCE
    old, new = words(SOURCE), words(changed)
    prefix = [a == b for a, b in zip(old, new, strict=False)].index(False)
    suffix = list(zip(old[::-1], new[::-1], strict=False))
    suffix = [a == b for a, b in suffix].index(False)
    # "1:" and ":-1", "is" and "is not" are two tokens or three.
    size = len(mutant.old.split()) + (":" in mutant.old)
    assert len(old) - prefix - suffix <= size + (mutant.old == ":-1"), mutant
    assert mutant.before == SOURCE.splitlines()[mutant.line - 1].strip()
    assert mutant.after == changed.splitlines()[mutant.line - 1].strip()
    assert mutant.function == {7: "Kept"}.get(mutant.line, "f")


def test_a_seed_draws_every_site_once_in_its_own_order(tmp_path):
  (tmp_path / "jaxgen").mkdir()
  (tmp_path / "jaxgen" / "a.py").write_text(SOURCE)
  first, again, other = (
    list(mutations.draw(seed, tmp_path)) for seed in (5, 5, 6)
  )
  assert first == again != other
  sites = mutations.sites(SOURCE, "jaxgen/a.py")
  assert sorted(mutant[:5] for mutant in first) == [site[:5] for site in sites]
  assert sorted(mutant[:5] for mutant in other) == [site[:5] for site in sites]
  head = list(itertools.islice(mutations.draw(5, tmp_path), 4))
  assert head == first[:4]


def test_mutants_of_another_version_by_their_lines(tmp_path):
  (tmp_path / "jaxgen").mkdir()
  file = tmp_path / "jaxgen" / "a.py"
  file.write_text(SOURCE)
  listed = "\n".join(map(mutations.line, mutations.draw(5, tmp_path)))
  every_one = list(mutations.of_lines(listed, tmp_path))
  assert sorted(every_one) == sorted(mutations.draw(5, tmp_path))
  file.write_text("\n" + SOURCE.replace("axis += 10", "axis += 11"))
  found = list(mutations.of_lines(listed, tmp_path))
  kept = [m for m in every_one if m.before != "axis += 10"]
  assert [m.key() for m in found] == [m.key() for m in kept]
  assert {m.line - 1 for m in found} == {m.line for m in kept}
  of_class = list(mutations.of_functions(["a.Kept"], tmp_path))
  assert [m.key()[1:] for m in of_class] == [
    ("Kept", 'size: "1 + 1" = 2', 'size: "1 + 1" = 3')
  ]
  assert not list(mutations.of_functions(["a.g", "b"], tmp_path))


def test_every_module_has_mirrored_tests():
  for path in mutations.ROOT.glob("jaxgen/**/*.py"):
    if path.name != "__init__.py":
      found = mutations.tests_of(str(path.relative_to(mutations.ROOT)))
      assert found and all((mutations.ROOT / test).exists() for test in found)
  first = lambda file: mutations.tests_of(file)[0]
  assert first("jaxgen/paths.py") == "tests/test_paths.py"
  assert first("jaxgen/models/gan.py") == "tests/models/test_gan_models.py"
  found = mutations.tests_of("jaxgen/losses/wasserstein.py")
  assert found[0] == "tests/losses/test_wasserstein.py"
  assert "tests/losses/test_penalties.py" in found[1:]
  assert "tests/losses/test_clouds.py" not in found
  said = r"tests/data/test_none.py, add to MIRRORS"
  expect.error(said, mutations.tests_of, "jaxgen/data/none.py")


def test_results_are_judged_and_counted():
  results = [dict(code=code, unimportable=False) for code in (1, 0, 0)]
  results += [dict(code="timeout"), dict(code="status 11")]
  results += [dict(code=2, unimportable=True)]
  outcomes = [mutants.judge(result) for result in results]
  expected = "killed survived survived timeout killed unimportable"
  assert outcomes == expected.split()
  drawn = [mutant for _, mutant in every(SOURCE)][: len(outcomes)]
  rows = [
    dict(mutant=list(mutant), outcome=outcome)
    for mutant, outcome in zip(drawn, outcomes, strict=True)
  ]
  found = mutants.counted(rows, {drawn[2].key(): "proof"})
  row = dict(killed=2, timeout=1, survived=1, equivalent=1)
  assert found["folders"] == {"jaxgen": row}
  assert found["redrawn"] == 1
  assert found["survived"] == [mutations.line(drawn[1])]
  assert found["equivalent"] == [[mutations.line(drawn[2]), "proof"]]
  assert "| all | 5 | 2 | 1 | 1 | 1 | 75.0 % |" in mutants.section(found)


def test_proofs_are_of_lines_that_exist():
  proofs = mutations.equivalents()
  assert all(proof.strip() for proof in proofs.values())
  lines = {(file, before) for file, _, before, _ in proofs}
  known = set()
  for file in {key[0] for key in proofs}:
    source = (mutations.ROOT / file).read_text()
    text = source.splitlines()
    for site in mutations.sites(source, file):
      if (file, text[site.line - 1].strip()) in lines:
        known |= {mutant.key() for mutant in mutations.mutants(source, site)}
  assert set(proofs) <= known
