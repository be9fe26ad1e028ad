"""Compare runs on one classification set, with paired tests on the images that they share."""

from collections.abc import Mapping, Sequence
from typing import Any

from cliplab.evaluation.blocks import Beside, Block, Cell, Column, Interval, Note, Row, Table
from cliplab.evaluation.kind import Record, Samples
from cliplab.evaluation.paired import holm, paired_difference
from cliplab.evaluation.references import references_for
from cliplab.evaluation.words import count, p_value, percent, points, span

MOVED = 8  # so many classes that gained most are shown, and as many that lost most
KEPT = ("acc1", "acc1_ci_low", "acc1_ci_high", "acc5", "mean_per_class_recall", "ece", "images", "chance")


def _row(label: str, record: Record) -> dict[str, Any]:
    figures = {key: record.metrics[key] for key in KEPT if key in record.metrics}
    return {"run": label, "protocol_hash": record.protocol_hash, **figures}


def _why_not_paired(first: Samples, other: Samples) -> str:
    """Why no paired test is possible; "" when both per-image tables list the same images in the same order."""
    if not first or not other:
        return "a per-image table is missing"
    if first["index"] != other["index"] or first["label"] != other["label"]:
        return "the images or labels differ"
    return ""


def _moved(first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The classes whose recall rose most and fell most from the first run to the last."""
    if not first.get("counts") or first.get("class_names") != last.get("class_names"):
        return {}
    rows = [
        {"name": name, "before": a[1] / a[0], "after": b[1] / b[0], "images": a[0]}
        for name, a, b in zip(first["class_names"], first["counts"], last["counts"], strict=True)
        if a[0] and a[0] == b[0]
    ]
    rows.sort(key=lambda row: row["before"] - row["after"])
    gained = [row for row in rows[:MOVED] if row["after"] > row["before"]]
    lost = [row for row in rows[::-1][:MOVED] if row["after"] < row["before"]]
    return {"gained": gained, "lost": lost}


def protocol_notes(name: str, records: Sequence[Record]) -> list[str]:
    """A sentence when the protocols of the runs differ. It names the parts that differ, when they are known."""
    if len({record.protocol_hash for record in records}) == 1:
        return []
    parts = [record.details.get("protocol") or {} for record in records]
    differing = [key for key in parts[0] if key != "all" and len({p.get(key) for p in parts}) > 1]
    return [f"{name}: the protocols differ" + (f" in {', '.join(differing)}" if differing else "")]


def compare_hits(name: str, runs: Sequence[tuple[str, Record]]) -> dict[str, Any]:
    """One set over several runs, as plain values with a row for each run. Differences are against the first run."""
    records = [record for _, record in runs]
    rows = [_row(label, record) for label, record in runs]
    tables = [record.samples(("index", "label", "rank")) for record in records]
    notes, tested = protocol_notes(name, records), []
    for row, table in zip(rows[1:], tables[1:], strict=True):
        problem = _why_not_paired(tables[0], table)
        if problem:
            notes.append(f"{name}: {row['run']} is not tested against {rows[0]['run']}, {problem}")
            continue
        first, second = ([rank == 0 for rank in t["rank"]] for t in (tables[0], table))
        row["difference"] = paired_difference(first, second)._asdict()
        tested.append(row["difference"])
    for difference, p in zip(tested, holm([d["p_value"] for d in tested]), strict=True):
        difference["p_holm"] = p
    models = dict.fromkeys(record.model for record in records)
    published = [r._asdict() for model in models for r in references_for(name, model)]
    moved = _moved(records[0].details, records[-1].details)
    return {"dataset": name, "rows": rows, "references": published, "notes": notes, "moved": moved}


def hits_blocks(compared: Mapping[str, Any]) -> list[Block]:
    """The result of ``compare_hits`` as blocks of a page."""
    rows, first = [], compared["rows"][0]
    for r in compared["rows"]:
        drawn = Interval(r["acc1"], r["acc1_ci_low"], r["acc1_ci_high"], r.get("chance"))
        acc1 = [
            Cell(percent(r["acc1"]), r["acc1"], strong=True),
            Cell(span(drawn.low, drawn.high), interval=drawn, soft=True),
        ]
        others = [Cell(percent(r.get(key)), r.get(key)) for key in ("acc5", "mean_per_class_recall")]
        rows.append(Row([Cell(r["run"], strong=True), *acc1, *_difference(r.get("difference")), *others]))
    for r in compared["references"]:
        name = Cell(f"published: {r['model']}, {r['trained_on']}", note=r["source"])
        rows.append(Row([name, Cell(percent(r["acc1"]), r["acc1"]), *[Cell() for _ in range(7)]], "reference"))
    columns = [Column("run", False), Column("top-1"), Column("95 % interval", False), Column("difference, points")]
    columns += [Column(title) for title in ("p", "only first right", "only this right", "top-5", "per-class recall")]
    small = f"{count(first['images'])} images, chance {percent(first.get('chance'), 2)}"
    table = Table(columns, rows, compared["dataset"], small, sortable=True)
    notes = [Note(text, alert=True) for text in compared["notes"]]
    return [*notes, table, *_moved_blocks(compared["moved"], first["run"], compared["rows"][-1]["run"])]


def _difference(d: Mapping[str, Any] | None) -> list[Cell]:
    if not d:
        return [Cell() for _ in range(4)]
    tone = "good" if d["low"] > 0 else "bad" if d["high"] < 0 else ""
    interval = f"{points(d['low'])} to {points(d['high'])}"
    value = Cell(points(d["value"]), d["value"], strong=True, note=interval, tone=tone)
    return [
        value,
        Cell(p_value(d["p_holm"]), d["p_holm"]),
        *(Cell(str(d[key])) for key in ("only_first", "only_second")),
    ]


def _moved_blocks(moved: Mapping[str, Sequence[Mapping[str, Any]]], first: str, last: str) -> list[Block]:
    """The classes that gained, next to those that lost."""
    tables = []
    for key in ("gained", "lost"):
        shares = [
            Row([Cell(c["name"]), Cell(percent(c["before"], 0)), Cell(percent(c["after"], 0)), Cell(str(c["images"]))])
            for c in moved.get(key) or ()
        ]
        if shares:
            tables.append([Table([Column(key, False), Column("before"), Column("after"), Column("images")], shares)])
    return [Note("", "Classes that moved most", f"{first} to {last}"), Beside(tables)] if tables else []
