"""How image-text retrieval is shown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cliplab.evaluation.blocks import Answer, Block, Card, Cell, Column, Interval, Row, Shelf, Table, Thumbnail
from cliplab.evaluation.intervals import wilson_interval
from cliplab.evaluation.kind import Kind, Metrics, Record, Samples, interval_cell
from cliplab.evaluation.words import count, percent

SHELF = 6
KS = (1, 5, 10)
WAYS = (("image_retrieval", "text to image", "captions"), ("text_retrieval", "image to text", "images"))  # and queries


def shelves(samples: Samples) -> dict[str, list[int]]:
    """Images whose caption was found first, the highest score first; and images whose caption was ranked lowest."""
    order = sorted(range(len(samples["text_rank"])), key=lambda i: -samples["top_text_scores"][i][0])
    misses = sorted((i for i in order if samples["text_rank"][i] > 0), key=lambda i: -samples["text_rank"][i])
    return {"Hits": [i for i in order if samples["text_rank"][i] == 0][:SHELF], "Misses": misses[:SHELF]}


class Retrieval(Kind):
    name, title, task, suffix = "retrieval", "Retrieval", "zeroshot_retrieval", "_retrieval"
    figures = {
        "recall@1": "recall@1 both ways",
        "image_retrieval_recall@1": "text to image R@1",
        "text_retrieval_recall@1": "image to text R@1",
    }
    facts = {"images": "images", "captions": "captions"}
    order = 20
    compared_under = "retrieval"

    def say(self, metrics: Metrics) -> str:
        both = (f"{metrics[f'{way}_recall@1']:.2%} {words}" for way, words, _ in WAYS)
        return f"recall@1 {', '.join(both)}"

    def scores(self, records: Sequence[Record]) -> list[Block]:
        rows = []
        for record in records:
            m = record.metrics
            for i, (way, words, queries) in enumerate(WAYS):
                recalls = [Cell(percent(m.get(f"{way}_recall@{k}"))) for k in KS]
                median = Cell(f"{m[f'{way}_median_rank']:g}" if f"{way}_median_rank" in m else "")
                number = Cell(count(m[queries]) if queries in m else "")
                rows.append(
                    Row([Cell("" if i else record.dataset, strong=True), Cell(words), *recalls, median, number])
                )
        columns = [Column("set", False), Column("way", False), *(Column(f"R@{k}") for k in KS)]
        return [Table([*columns, Column("median rank"), Column("queries")], rows, title=self.title)]

    def blocks(self, record: Record) -> list[Block]:
        """Hits and misses from image to text, and the images that the first caption of each finds."""
        samples = record.samples()
        if not {"thumbnail", "top_texts"} <= set(samples):
            return []
        small = "captions found for a picture, and what its own caption finds"
        return [
            Shelf(title, [self.card(record.details, samples, i) for i in rows], small)
            for title, rows in shelves(samples).items()
            if rows
        ]

    def pictured(self, samples: Samples) -> set[int]:
        shown = [i for rows in shelves(samples).values() for i in rows]
        return set(shown) | {j for i in shown for j in (samples["top_images"][i] or [[]])[0]}

    def card(self, details: Mapping[str, Any], samples: Samples, row: int) -> Card:
        captions, rank = samples["captions"][row], samples["text_rank"][row]
        scores = zip(samples["top_texts"][row], samples["top_text_scores"][row], strict=True)
        best = dict(reversed(list(scores)))  # a caption that several images share appears once, with its best score
        thumbnails = samples.get("thumbnail") or [None] * len(samples["captions"])
        found = [
            Thumbnail(thumbnails[j], bool(set(captions[:1]) & set(samples["captions"][j])))
            for j in (samples["top_images"][row] or [[]])[0]
        ]
        return Card(
            thumbnails[row],
            captions[0] if captions else "",
            rank == 0,
            [Answer(text, share, f"{s:.2f}", text in captions) for (text, s), share in _with_shares(best, details)],
            f"place {rank + 1}",
            f"its caption comes at place {rank + 1}" if rank >= 5 else "",
            [thumbnail for thumbnail in found if thumbnail.picture],
        )

    def compare(self, name: str, runs: Sequence[tuple[str, Record]]) -> dict[str, Any]:
        """Recalls with their intervals, a row for each run."""
        rows = []
        for label, record in runs:
            shares = {f"{way}_recall@1": record.metrics[queries] for way, _, queries in WAYS}
            cells = {key: _with_interval(record.metrics[key], n) for key, n in shares.items()}
            rows.append({"run": label, **cells})
        return {"dataset": name, "rows": rows}

    def compare_blocks(self, compared: Mapping[str, Any]) -> list[Block]:
        keys = [f"{way}_recall@1" for way, _, _ in WAYS]
        rows = [
            Row([Cell(r["run"], strong=True), *(c for key in keys for c in _recall(r[key]))]) for r in compared["rows"]
        ]
        columns = [Column("run", False), Column("image R@1"), Column("95 % interval", False)]
        columns += [Column("text R@1"), Column("95 % interval", False)]
        return [Table(columns, rows, title=compared["dataset"], small="retrieval", sortable=True)]


def _with_shares(best: Mapping[str, float], details: Mapping[str, Any]) -> list[tuple[tuple[str, float], float]]:
    """Each text with its score, the best first, and the length of its bar: a cosine above 0, or, where the objective scores
    texts by log-likelihoods, the likelihood relative to the best."""
    ordered = list(best.items())[::-1]
    highest = ordered[0][1] if ordered else 0.0
    shares = [math.exp(min(0.0, s - highest)) if details.get("by_score") else max(0.0, s) for _, s in ordered]
    return list(zip(ordered, shares, strict=True))


def _with_interval(share: float, queries: float) -> list[float]:
    return [share, *wilson_interval(share * queries, queries)]


def _recall(interval: Sequence[float]) -> list[Cell]:
    value, low, high = interval
    return [Cell(percent(value), value, strong=True), interval_cell(Interval(value, low, high))]


KIND = Retrieval()
