"""What jaxgen does, measured: `python -m benchmarks` lists the benchmarks."""
