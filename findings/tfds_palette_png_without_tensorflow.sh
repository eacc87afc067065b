#!/usr/bin/env bash
# tensorflow-datasets without TensorFlow reads a palette PNG as its indices.
#
# Packages: tensorflow-datasets 4.9.10, pillow 13.0.0, numpy 2.4.6, no
# TensorFlow and no OpenCV installed (what tfds.data_source users have).
#
# The guess, written before running: tfds.features.Image(shape=(h, w, 3)) of a
# PNG with a palette (what many tools write for images of few colours) decodes
# to the palette's colours, as TensorFlow's decode_png and Pillow's convert do;
# or it is rejected, because the file has one channel where three are declared.
#
# What happens: the example's pixels are the palette's indices, copied into all
# three channels. A red pixel (palette entry 0) and a blue one (entry 1) become
# [0, 0, 0] and [1, 1, 1]: an almost black image. Shape and dtype are right and
# nothing warns. The decoder opens the file with Pillow and takes the array as
# it is, without asking for its mode; an array of two dimensions is then
# repeated to the declared number of channels.
#
# It matters here because a data set prepared once from palette PNGs trains a
# model on indices. Decode such files yourself (tfds.decode.SkipDecoding).
#
# Output seen:
#   tfds   [[[0, 0, 0], [1, 1, 1]]]
#   pillow [[[255, 0, 0], [0, 0, 255]]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow-datasets==4.9.10 importlib_resources==6.5.2 pillow==13.0.0 \
  numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

image = Image.new("P", (2, 1))
image.putpalette([255, 0, 0, 0, 0, 255])
image.putdata([0, 1])
image.save("palette.png")

feature = tfds.features.Image(shape=(1, 2, 3), encoding_format="png")
read = feature.decode_example_np(feature.encode_example("palette.png"))
colours = np.asarray(Image.open("palette.png").convert("RGB"))
print("tfds  ", read.tolist())
print("pillow", colours.tolist())
same = read.tolist() == [[[0, 0, 0], [1, 1, 1]]]
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
