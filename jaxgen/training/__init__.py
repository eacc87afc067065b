"""Training: games of named players, checkpoints, the loop, its records."""
