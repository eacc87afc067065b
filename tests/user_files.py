"""Images, points and text as a user has them."""

import json
import pathlib
import zipfile

import numpy as np
from PIL import Image


def write(home: pathlib.Path) -> pathlib.Path:
  """Fills a folder with the data that commands of the pages name."""
  rng = np.random.RandomState(0)

  def save(name, shape):
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.randint(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(home / name)

  for row in range(4):
    save(f"sketches/{row}.png", (28, 28))
    save(f"flowers/{'ab'[row % 2]}/{row}.png", (40, 40, 3))
    save(f"mixed/{row}.png", (30 + row, 40))
    save(f"icons/{row}.png", (16, 16, 4))
    save(f"edm/00000/img{row:08}.png", (16, 16, 3))
  with zipfile.ZipFile(home / "edm.zip", "w") as archive:
    names = [f"00000/img{row:08}.png" for row in range(4)]
    for name in names:
      archive.write(home / "edm" / name, name)
    labels = [[name, row % 2] for row, name in enumerate(names)]
    archive.writestr("dataset.json", json.dumps({"labels": labels}))
  images = rng.randint(0, 256, (9, 12, 12)).astype(np.uint8)
  np.savez(home / "images.npz", images=images)
  (home / "book.txt").write_text("It was the best of times. " * 100)
  for name in ("points", "other"):
    np.savez(home / f"{name}.npz", points=rng.normal(size=(60, 2)))
  return home
