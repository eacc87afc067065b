"""Truths that tests compare with, and benchmarks too: written out by hand."""
