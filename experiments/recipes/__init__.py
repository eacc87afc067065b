"""Models and games that scripts and benchmarks share; none writes files."""
