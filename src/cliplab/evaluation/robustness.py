"""Compare a classification set with shifted versions of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cliplab.evaluation.blocks import Block, Cell, Column, Interval, Note, Row, Table
from cliplab.evaluation.intervals import wilson_interval
from cliplab.evaluation.kind import Record, interval_cell
from cliplab.evaluation.references import expected_under_shift
from cliplab.evaluation.words import percent, points

EXPLAINED = (
    "Expected: the accuracy of published CLIP models with this ImageNet accuracy, on a line through them in logits. "
    "Effective: the difference to it. Sets with 200 of the classes are scored against those classes only, so their points "
    "understate the shift."
)


class Group(NamedTuple):
    """A named part of a set: its top-1, and an interval when the counts are known."""

    key: str
    acc1: float
    images: int | None = None
    interval: Interval | None = None

    @property
    def name(self) -> str:
        return self.key.replace("_", " ")


def groups_of(record: Record) -> list[Group]:
    counted, found = record.details.get("groups") or {}, []
    for key, value in record.metrics.items():
        name = key.removeprefix("acc1_")
        if key.startswith("acc1_") and not name.startswith(("ci_", "ties_")):
            images, hits = counted.get(name, (None, None))
            interval = Interval(value, *wilson_interval(hits, images)) if images else None
            found.append(Group(name, value, images, interval))
    return found


def shifted_imagenet(records: Sequence[Record]) -> list[Block]:
    """Effective robustness: the difference to the accuracy that is expected of a model with this ImageNet accuracy."""
    base = next((r for r in records if r.dataset == "imagenet"), None)
    shifted = [r for r in records if r.dataset.startswith("imagenet_") or r.dataset == "objectnet"]
    if base is None or not shifted:
        return []
    first = base.metrics["acc1"]
    rows = [Row([Cell("imagenet", strong=True), Cell(percent(first), strong=True)])]
    for record in shifted:
        acc1, expected = record.metrics["acc1"], expected_under_shift(record.dataset, first)
        interval = Interval(acc1, record.metrics["acc1_ci_low"], record.metrics["acc1_ci_high"])
        above = "" if expected is None else points(acc1 - expected)
        known = "" if expected is None else percent(expected)
        cells = [Cell(record.dataset), Cell(percent(acc1)), interval_cell(interval), Cell(points(acc1 - first))]
        rows.append(Row([*cells, Cell(known), Cell(above)]))
    columns = [Column("shifted set", False), Column("top-1"), Column("95 % interval", False), Column("points")]
    return [Table([*columns, Column("expected"), Column("effective")], rows), Note(EXPLAINED, soft=True)]


def styles(record: Record, config: Mapping[str, Any]) -> list[Block]:
    """Compare an art style that was trained on with one that was not."""
    train = ((config.get("data") or {}).get("train") or {}).get("dataset") or {}
    node = ((config.get("zeroshot") or {}).get(record.dataset) or {}).get("dataset") or {}
    groups = {g.key: g for g in groups_of(record) if g.key in (node.get("styles") or [])}
    seen = [style for style in train.get("styles") or [] if style in groups]
    if len(groups) < 2 or not seen:
        return []
    first = groups[seen[0]]
    name = Cell(f"{record.dataset}, {first.key}", strong=True)
    rows = [Row([name, Cell(percent(first.acc1), strong=True), Cell(), Cell(), Cell("yes")])]
    for group in groups.values():
        if group.key != first.key:
            trained_on = Cell("yes" if group.key in seen else "no: a shift")
            drop = Cell(points(group.acc1 - first.acc1))
            rows.append(
                Row([Cell(group.key), Cell(percent(group.acc1)), interval_cell(group.interval), drop, trained_on])
            )
    columns = [Column("style", False), Column("top-1"), Column("95 % interval", False), Column("points")]
    return [Table([*columns, Column("in training", False)], rows)]
