"""Tars as sequences of samples: their members, how those form samples, and an index."""
