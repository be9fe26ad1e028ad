"""How much of the differences between jobs each setting explains."""

from collections.abc import Mapping, Sequence

import numpy as np

from cliplab.reporting.sweep.jobs import number

FEW, MOST_GROUPS, EACH = 6, 5, 6  # distinct numbers that stay as they are; groups of the others; jobs of a group
METHOD = (
    "An additive model of all settings is fitted to the jobs; shown is the share of their variance that is lost when one "
    "setting is left out of it, less what chance would explain (analysis of variance, type II). Numbers with more than six "
    "values are taken in groups of neighbours. What settings do only together, and seeds, are the rest."
)


def groups_of(texts: Sequence[str]) -> list[int]:
    """A group for each job: its value, or for numbers of many values one of a few ranges with equally many of them."""
    numbers = [number(text) for text in texts]
    distinct = sorted({value for value in numbers if value is not None})
    if None in numbers or len(distinct) <= FEW:
        known = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        return [known[text] for text in texts]
    count = max(2, min(MOST_GROUPS, len(texts) // EACH))
    place = {value: i * count // len(distinct) for i, value in enumerate(distinct)}
    return [place[value] for value in numbers if value is not None]


def _left(columns: Sequence[np.ndarray], values: np.ndarray) -> tuple[float, int]:
    """What an additive model of these columns leaves unexplained, as a sum of squares, and the rank of the model."""
    design = np.concatenate([np.ones((len(values), 1)), *columns], axis=1)
    solved, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(np.square(values - design @ solved).sum()), int(rank)


def importances(columns: Mapping[str, Sequence[str]], values: Sequence[float]) -> dict[str, float]:
    """Shares in [0, 1] by setting, the most important first. Empty when the jobs are all alike, or too few to tell."""
    figures = np.asarray(values, dtype=np.float64)
    coded = {}
    for key, texts in columns.items():
        groups = np.asarray(groups_of(texts))
        coded[key] = (groups[:, None] == np.unique(groups)[None, 1:]).astype(np.float64)  # [jobs, groups - 1]
    total = float(np.square(figures - figures.mean()).sum()) if len(figures) else 0.0
    if not coded or total <= 1e-18 * max(1.0, float(np.square(figures).max())):
        return {}
    rest, rank = _left(list(coded.values()), figures)
    if len(figures) <= rank:
        return {}
    noise = rest / (len(figures) - rank)
    shares = {}
    for key in coded:
        without, smaller = _left([column for other, column in coded.items() if other != key], figures)
        shares[key] = min(1.0, max(0.0, (without - rest - (rank - smaller) * noise) / total))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
