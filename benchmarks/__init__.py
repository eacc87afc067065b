"""Side-by-side timings and published tables; each writes docs/results/."""
