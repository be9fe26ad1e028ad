"""Choose the images of a per-image table that a report shows. Rows are positions in the table."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

Samples = Mapping[str, list[Any]]
SHELF = 12
PAIRS = 12


class Confused(NamedTuple):
    """A wrong answer and its frequency. ``row`` is an image with it, ``other`` an image of the answered class, or None."""

    label: int
    answer: int
    times: int
    row: int
    other: int | None


def gallery_rows(samples: Samples) -> dict[str, list[int]]:
    """Confidently right, confidently wrong, and near misses (rank 2), the most confident first; and an even spread."""
    confidence = [p[0] for p in samples["top5_probability"]]
    order = sorted(range(len(confidence)), key=lambda i: -confidence[i])
    rank = samples["rank"]
    spread = range(0, len(order), max(1, len(order) // SHELF))
    return {
        "Confidently right": [i for i in order if rank[i] == 0][:SHELF],
        "Confidently wrong": [i for i in order if rank[i] >= 5][:SHELF],
        "Near misses": [i for i in order if rank[i] == 1][:SHELF],
        "A cross-section": list(spread)[:SHELF],
    }


def confused_pairs(samples: Samples) -> list[Confused]:
    """The most frequent wrong answers. Of equally frequent ones, the most confident comes first."""
    found: dict[tuple[int, int], list[int]] = {}
    for i, (label, top, rank) in enumerate(zip(samples["label"], samples["top5"], samples["rank"], strict=True)):
        if rank > 0:
            found.setdefault((label, top[0]), []).append(i)
    example: dict[int, int] = {}
    for i, label in enumerate(samples["label"]):
        example.setdefault(label, i)
    confidence = [p[0] for p in samples["top5_probability"]]
    pairs = sorted(found.items(), key=lambda item: (-len(item[1]), -max(confidence[i] for i in item[1])))
    return [Confused(label, answer, len(rows), rows[0], example.get(answer)) for (label, answer), rows in pairs[:PAIRS]]


def mistaken_for(samples: Samples) -> dict[int, tuple[int, int]]:
    """For each class with errors, its most frequent wrong answer and how often it was given."""
    wrong: dict[int, Counter[int]] = {}
    for label, top, rank in zip(samples["label"], samples["top5"], samples["rank"], strict=True):
        if rank > 0:
            wrong.setdefault(label, Counter())[top[0]] += 1
    return {label: counter.most_common(1)[0] for label, counter in wrong.items()}


def rows_with_pictures(samples: Samples) -> set[int]:
    """All rows whose pictures a report shows."""
    pairs = confused_pairs(samples)
    shown = {i for shelf in gallery_rows(samples).values() for i in shelf}
    return shown | {p.row for p in pairs} | {p.other for p in pairs if p.other is not None}
