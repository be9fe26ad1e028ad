"""The page of a sweep, or of any runs beside each other: from records of jobs to figures, plots and tables.

Nothing heavy is imported here: no torch.
"""
