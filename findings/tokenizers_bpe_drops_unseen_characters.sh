#!/usr/bin/env bash
# A byte-level BPE tokenizer drops every character that its training text did
# not have, without an error and without an unknown token.
#
# Packages: tokenizers 0.23.3.
#
# The guess, written before running: byte-level BPE, models.BPE() behind
# pre_tokenizers.ByteLevel(), encodes every text and decode(encode(text)) is the
# text, as with GPT-2, because the alphabet is the 256 bytes. A vocabulary of
# 300 has room for all of them. The training text decides on the merges alone.
#
# What happens: the alphabet is what the trainer saw, here 13 letters and the
# space. All other characters of a text vanish: digits, commas and the letters
# that the training text did not have. byte_fallback=True changes nothing, as
# the byte tokens that it needs are not in the vocabulary. The text is shorter
# by more than a third and nothing says so. Bits per byte, the tokens' bits
# divided by the bytes of the original text, come out too good, as what is lost
# costs nothing. What repairs it is to give the trainer
# initial_alphabet=pre_tokenizers.ByteLevel.alphabet().
#
# It matters here because models of text are compared by bits per byte, so that
# a vocabulary must encode every byte, and a test of its round trip needs text
# with characters that the training text lacks.
#
# Output seen:
#   text       'pay 1250 dollars by 30 june, or lose the cat'
#   default    'a  doars   ne or ose the cat'
#   fallback   'a  doars   ne or ose the cat'
#   alphabet   'pay 1250 dollars by 30 june, or lose the cat'
#   bits per byte of a unigram model: default 3.67, alphabet 7.41
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
import collections
import math

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

seen = 20 * [
  "the cat sat on the mat and the dog ran after the cat",
  "a red hen met a man on the road to the sea",
]
text = "pay 1250 dollars by 30 june, or lose the cat"


def trained(model, **how):
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, **how)
  tokenizer.train_from_iterator(seen, trainer)
  return tokenizer


def bits_per_byte(tokenizer):
  # The frequency of a token in the training text, with one more of every token.
  counts = collections.Counter(
    i for line in seen for i in tokenizer.encode(line).ids)
  total = sum(counts.values()) + tokenizer.get_vocab_size()
  ids = tokenizer.encode(text).ids
  bits = -sum(math.log2((counts[i] + 1) / total) for i in ids)
  return bits / len(text.encode())


alphabet = pre_tokenizers.ByteLevel.alphabet()
made = {
  "default": trained(models.BPE()),
  "fallback": trained(models.BPE(byte_fallback=True)),
  "alphabet": trained(models.BPE(), initial_alphabet=alphabet),
}
print(f"{'text':10} {text!r}")
back = {}
for name, tokenizer in made.items():
  back[name] = tokenizer.decode(tokenizer.encode(text).ids)
  print(f"{name:10} {back[name]!r}")
short, full = bits_per_byte(made["default"]), bits_per_byte(made["alphabet"])
print(f"bits per byte of a unigram model: default {short:.2f}, "
      f"alphabet {full:.2f}")
letters = set("".join(seen))
kept = "".join(c for c in text if c in letters)
same = (
  back["default"] == back["fallback"] == kept
  and back["alphabet"] == text and short < full
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
