"""Every page of docs/results, written again from its record.

  python -m benchmarks.pages          seconds: nothing is measured

A page is a function of its .json alone, so its words can change without a new
measurement. tests/test_docs.py asserts that each page is what its record makes.
"""

import json
from collections.abc import Callable

from benchmarks import (
  c2ot_page,
  crashes,
  critic_speed,
  devices,
  duality,
  duals_page,
  few_steps_page,
  likelihood,
  loading,
  one_layer,
  orders,
  overhead,
  pairing,
  peers_page,
  quality_page,
  results,
  throughput_page,
  tong_page,
  unified,
)

PAGES: dict[str, Callable[[dict], str]] = {
  "c2ot": c2ot_page.page,
  "crashes": crashes.markdown,
  "critic_speed": critic_speed.page,
  "devices": devices.page,
  "duality": duality.page,
  "few_steps": few_steps_page.page,
  "likelihood": likelihood.page,
  "loading": loading.page,
  "one_layer": one_layer.page,
  "orders": orders.page,
  "overhead": overhead.page,
  "pairing": pairing.page,
  "peers": peers_page.page,
  "quality": quality_page.page,
  "ring": duals_page.of_ring,
  "throughput": throughput_page.page,
  "tong": tong_page.page,
  "unified": unified.page,
  "w1": duals_page.of_w1,
  "w2": duals_page.of_w2,
}


def main() -> None:
  """Writes each page whose record is there."""
  out = results.parser(__doc__).parse_args().out
  for name, page in PAGES.items():
    path = out / f"{name}.json"
    if path.exists():
      record = json.loads(path.read_text())
      path.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
  main()
