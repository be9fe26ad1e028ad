"""How the jobs of a sweep are run: one file for each choice of launcher=."""
