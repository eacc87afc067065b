"""Losses: pure functions of one example, or of a cloud where they say so."""
