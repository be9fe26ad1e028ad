"""Tars as sets of samples: their members, which belong together, and an index."""
