#!/usr/bin/env bash
# Pillow scales the levels of a 2-bit grey PNG to 8 bits, but not the level
# that the file declares transparent: the wrong pixels are transparent, or none.
#
# Packages: pillow 13.0.0, numpy 2.4.6.
#
# The guess, written before running: a grey PNG of 2 bits a pixel with a tRNS
# chunk naming level 1 opens with pixels 0, 85, 170, 255 (PNG specification,
# section 13.12: levels are scaled to the full range), and convert("RGBA") makes
# the pixel of level 1, now 85, transparent and the other three opaque.
#
# What happens: the pixels are scaled, info["transparency"] stays 1, and
# convert compares it with the scaled pixels. No pixel is 1, so all four are
# opaque. With 4 bits and level 1 it is the same. 8-bit grey works.
#
# It matters here because whether an image has transparent pixels decides
# whether it can be trained on as it is; for 2 and 4 bits the level has to be
# scaled by 85 or 17 before convert is called.
#
# Output seen:
#   2 bits: pixels [0, 85, 170, 255] declared 1 alpha [255, 255, 255, 255]
#   4 bits: pixels [0, 17, 34, 51] declared 1 alpha [255, 255, 255, 255]
#   8 bits: pixels [0, 1, 2, 3] declared 1 alpha [255, 0, 255, 255]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import zlib

import numpy as np
from PIL import Image


def chunk(kind, data):
  crc = zlib.crc32(kind + data)
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def grey_png(bits):
  """Four pixels of levels 0, 1, 2, 3, of which level 1 is transparent."""
  number = sum(level << bits * (3 - i) for i, level in enumerate(range(4)))
  row = number.to_bytes(4 * bits // 8, "big")
  return b"".join([
    b"\x89PNG\r\n\x1a\n",
    chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)),
    chunk(b"tRNS", struct.pack(">H", 1)),
    chunk(b"IDAT", zlib.compress(b"\0" + row)),
    chunk(b"IEND", b""),
  ])


alphas = {}
for bits in (2, 4, 8):
  image = Image.open(io.BytesIO(grey_png(bits)))
  pixels = np.asarray(image)[0].tolist()
  alphas[bits] = np.asarray(image.convert("RGBA"))[0, :, 3].tolist()
  declared = image.info["transparency"]
  print(f"{bits} bits: pixels {pixels} declared {declared} alpha {alphas[bits]}")
opaque = [255] * 4
same = alphas == {2: opaque, 4: opaque, 8: [255, 0, 255, 255]}
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
