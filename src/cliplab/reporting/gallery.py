"""Which images of a per-image table are worth a picture. Rows are positions in the table."""

from collections import Counter
from typing import Any

Samples = dict[str, list[Any]]
SHELF = 12
PAIRS = 12


def gallery_rows(samples: Samples) -> dict[str, list[int]]:
    """Confidently right, confidently wrong, near misses (rank 2), each the most confident first, and an even spread."""
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


def confused_pairs(samples: Samples) -> list[dict[str, Any]]:
    """The most frequent wrong answers: label, answer, count, a row so answered, and a row of the class it was taken for
    (None without one). Among equals the most confident come first."""
    found: dict[tuple[int, int], list[int]] = {}
    for i, (label, top, rank) in enumerate(zip(samples["label"], samples["top5"], samples["rank"], strict=True)):
        if rank > 0:
            found.setdefault((label, top[0]), []).append(i)
    example: dict[int, int] = {}
    for i, label in enumerate(samples["label"]):
        example.setdefault(label, i)
    confidence = [p[0] for p in samples["top5_probability"]]
    pairs = sorted(found.items(), key=lambda item: (-len(item[1]), -max(confidence[i] for i in item[1])))
    return [
        {"label": a, "answer": b, "count": len(rows), "row": rows[0], "other": example.get(b)}
        for (a, b), rows in pairs[:PAIRS]
    ]


def mistaken_for(samples: Samples) -> dict[int, tuple[int, int]]:
    """For each class with errors its most frequent wrong answer and how often."""
    wrong: dict[int, Counter[int]] = {}
    for label, top, rank in zip(samples["label"], samples["top5"], samples["rank"], strict=True):
        if rank > 0:
            wrong.setdefault(label, Counter())[top[0]] += 1
    return {label: counter.most_common(1)[0] for label, counter in wrong.items()}


def retrieval_shelves(samples: Samples) -> dict[str, list[int]]:
    """Images whose own caption was found first, with the highest score; and those where it came last of all."""
    order = sorted(range(len(samples["text_rank"])), key=lambda i: -samples["top_text_scores"][i][0])
    misses = sorted((i for i in order if samples["text_rank"][i] > 0), key=lambda i: -samples["text_rank"][i])
    return {"Hits": [i for i in order if samples["text_rank"][i] == 0][: SHELF // 2], "Misses": misses[: SHELF // 2]}


def rows_with_pictures(samples: Samples) -> set[int]:
    """All rows that a report shows."""
    if "top5_probability" in samples:
        rows = {i for shelf in gallery_rows(samples).values() for i in shelf}
        pairs = confused_pairs(samples)
        return rows | {p["row"] for p in pairs} | {p["other"] for p in pairs if p["other"] is not None}
    if "top_images" in samples:
        shown = [i for shelf in retrieval_shelves(samples).values() for i in shelf]
        return set(shown) | {j for i in shown for j in (samples["top_images"][i] or [[]])[0]}
    return set()
