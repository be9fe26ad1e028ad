"""The names that folders, files and rows of a split may have."""

# A name stands for all names of its line.
SYNONYMS = (("train", "training"), ("validation", "valid", "val", "dev"), ("test", "testing", "eval", "evaluation"))
SPLIT_NAMES = frozenset(name for names in SYNONYMS for name in names)


def names_of_split(split: str) -> tuple[str, ...]:
    """The split's own name, then its synonyms."""
    return split, *next((names for names in SYNONYMS if split in names), ())
