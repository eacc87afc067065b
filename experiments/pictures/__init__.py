"""Pictures: arrays in, a PNG file out."""
