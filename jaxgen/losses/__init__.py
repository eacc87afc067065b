"""Losses: pure functions of one example, or of a batch where documented."""
