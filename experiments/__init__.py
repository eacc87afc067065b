"""One readable script a method: python -m experiments.edm digits."""
