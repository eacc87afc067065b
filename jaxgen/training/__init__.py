"""Training: games of named players, checkpoints, the loop and its logs."""
