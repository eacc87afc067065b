"""Games and models that scripts and benchmarks share, without files."""
