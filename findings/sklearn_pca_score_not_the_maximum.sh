#!/usr/bin/env bash
# PCA.score of scikit-learn is not the maximum of the likelihood it evaluates.
#
# Packages: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1.
#
# The guess, written before running: PCA(q).fit(x).score(x) is the mean
# log-likelihood of probabilistic PCA (Tipping and Bishop 1999) at its maximum
# over loadings, mean and noise, as its documentation refers to that model and
# PCA is its maximum likelihood solution. No other parameters with q components
# can have a higher mean log-likelihood of the same data.
#
# What happens: the components are right, but the variances come from the
# covariance divided by N - 1, as for an unbiased estimate, while the likelihood
# is maximal for the covariance divided by N. Scaling the model's covariance by
# (N - 1) / N raises the mean log-likelihood of the training data. On held-out
# data the order is reversed here. The difference is about D / (4 N^2) nats per
# example: small for images, where it lies in the fifth decimal and makes a test
# against the closed form fail at 1e-6, and larger than .1 nats for few rows of
# many columns.
#
# It matters here because the linear VAE's optimum has that closed form, and a
# test that takes the truth from score() would hold the wrong figure to all its
# digits.
#
# Output seen:
#   digits, 1257 x 64, 10 components: score -159.757180, scaled -159.757170
#   held out: score -160.454851, scaled -160.455396
#   12 x 8 normal numbers, 3 components: scaled is higher by 0.014712
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from scipy import stats
from sklearn import datasets, decomposition


def scores(train, other, components):
  model = decomposition.PCA(components).fit(train)
  number = len(train)
  scaled = model.get_covariance() * (number - 1) / number
  density = stats.multivariate_normal(model.mean_, scaled)
  return [
    (model.score(x), density.logpdf(x).mean()) for x in (train, other)
  ]


digits = datasets.load_digits().data
order = np.random.RandomState(0).permutation(len(digits))
train, test = digits[order[:1257]], digits[order[1437:]]
(own, own_scaled), (held_out, held_out_scaled) = scores(train, test, 10)
print(
  f"digits, 1257 x 64, 10 components: score {own:.6f}, scaled {own_scaled:.6f}"
)
print(f"held out: score {held_out:.6f}, scaled {held_out_scaled:.6f}")
few = np.random.RandomState(0).normal(size=(12, 8))
((small, small_scaled), _) = scores(few, few, 3)
gain = small_scaled - small
print(f"12 x 8 normal numbers, 3 components: scaled is higher by {gain:.6f}")
same = own_scaled - own > 5e-6 and held_out > held_out_scaled and gain > 0.005
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
