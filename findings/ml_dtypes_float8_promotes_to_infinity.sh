#!/usr/bin/env bash
# ml_dtypes 0.6.0 promotes two float8 types to one of them, in which values of
# the other are infinite; 0.7.0 mends that, and takes .6 s to import.
#
# Packages: ml_dtypes 0.6.0 and 0.7.0, numpy 2.4.6.
#
# The guess, written before running: as for NumPy's own types, a promotion holds
# all values of both types or raises; a Python number is weak, so that a bfloat16
# array plus 1.0 is bfloat16, as float16 plus 1.0 is float16 (NEP 50). A minor
# release of a package of types changes neither that nor the time of its import,
# some milliseconds.
#
# What happens:
#   - 0.6.0 promotes float8_e4m3fn and float8_e4m3 to float8_e4m3, whose largest
#     value is 240, by np.promote_types and in np.concatenate: 256 to 448 become
#     infinite. Their sum by `+` is float8_e4m3fn. In 0.7.0 all are float32.
#   - Both promote float8_e4m3fn and uint8 to float8_e4m3fn, which rounds 255 to
#     256.
#   - A bfloat16 array plus 1 is bfloat16 in both; plus 1.0 it is float32 in
#     0.6.0 and bfloat16 in 0.7.0. The same for bfloat16 and int4 arrays.
#   - `import ml_dtypes` takes 10 to 20 ms of CPU after NumPy's import in 0.6.0,
#     and .6 s in 0.7.0: more than half of the import of JAX, which brings it.
#
# It matters here because every command, worker and test process imports JAX.
# requirements.txt asks for a version below 0.7 until that is mended.
#
# Output seen:
#   0.6.0: promoted float8_e4m3, joined [448, 1] -> [inf, 1]; sum float8_e4m3fn
#          uint8 255 -> 256; bfloat16 + 1 bfloat16, + 1.0 float32, + int4 float32
#   0.7.0: promoted float32, joined [448, 1] -> [448, 1]; sum float32
#          uint8 255 -> 256; bfloat16 + 1 bfloat16, + 1.0 bfloat16, + int4 bfloat16
#   import, 0.7.0 / 0.6.0: 34 (in other runs up to 65)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
python="$folder/venv/bin/python"

cat > "$folder/probe.py" <<'PYTHON'
import json
import os
import sys

import numpy as np

before = sum(os.times()[:2])
import ml_dtypes as m

took = sum(os.times()[:2]) - before
wide = np.array([448], m.float8_e4m3fn)
narrow = np.array([1], m.float8_e4m3)
joined = np.concatenate([wide, narrow]).astype(float).tolist()
bytes_too = np.concatenate([wide, np.array([255], "uint8")])
half = np.ones(2, m.bfloat16)
found = dict(
  promoted=str(np.promote_types(wide.dtype, narrow.dtype)),
  joined=joined,
  sum=str((wide + narrow).dtype),
  byte=float(bytes_too[1]),
  integer=str((half + 1).dtype),
  real=str((half + 1.0).dtype),
  int4=str((half + np.ones(2, m.int4)).dtype),
)
print(m.__version__, found, file=sys.stderr)
print(json.dumps(found | dict(seconds=took)))
PYTHON

for version in 0.6.0 0.7.0; do
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    numpy==2.4.6 ml_dtypes==$version
  for _ in 1 2 3; do  # the last one finds compiled modules
    "$python" "$folder/probe.py" > "$folder/$version.json"
  done
done

"$python" - "$folder" <<'PYTHON'
import json
import sys

old, new = (json.load(open(f"{sys.argv[1]}/{v}.json")) for v in ("0.6.0", "0.7.0"))
ratio = new.pop("seconds") / max(old.pop("seconds"), 0.01)
print(f"import, 0.7.0 / 0.6.0: {ratio:.0f}")
same = dict(byte=256, integer="bfloat16")
first = dict(promoted="float8_e4m3", joined=[float("inf"), 1], sum="float8_e4m3fn")
then = dict(promoted="float32", joined=[448, 1], sum="float32")
assert old == same | first | dict(real="float32", int4="float32")
assert new == same | then | dict(real="bfloat16", int4="bfloat16")
assert ratio > 10
PYTHON
