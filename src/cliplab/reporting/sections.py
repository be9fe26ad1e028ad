"""The parts of a report that are not about one kind of evaluation, from the files of the run. Missing parts are left out."""

import csv
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from cliplab.evaluation.blocks import Block
from cliplab.evaluation.kind import Record, kind_of
from cliplab.reporting.plots import line_plot
from cliplab.reporting.results import read_history
from cliplab.reporting.sweep.typed import readable_yaml

TRAINING = "train/"  # the prefix of the logged names of training figures
FIRST_CURVES = ("loss", "lr")  # the others follow in the order of metrics.csv
CURVE_TITLES = {"lr": "learning rate"}  # for names that would not read well


def read_config(run_dir: Path) -> dict[str, Any]:
    """The config of a run; empty when it is not there or damaged."""
    found = readable_yaml(run_dir / "config.yaml")
    return found if isinstance(found, dict) else {}


def by_kind(records: Sequence[Record]) -> Iterator[list[Record]]:
    """The records of each kind. Records of one kind must be next to each other."""
    for _, group in groupby(records, key=lambda record: record.kind.name):
        yield list(group)


def progress(run_dir: Path, records: Sequence[Record]) -> list[Block]:
    """The curves of every kind that was evaluated more than once."""
    lines: dict[str, list[Any]] = {}
    kinds = {}
    for line in read_history(run_dir):
        kind = kind_of(line.get("task", "zeroshot_classification"), line["metrics"])
        kinds[kind.name] = kind
        lines.setdefault(kind.name, []).append(line)
    of_kind = {name: [record for record in records if record.kind.name == name] for name in kinds}
    return [block for name, kind in kinds.items() for block in kind.progress(lines[name], of_kind[name])]


def costs(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Seconds by phase of each evaluation, and milliseconds per image."""
    rows = []
    for record in records:
        phases = record.details.get("seconds") or {}
        if phases:
            total, images = sum(phases.values()), record.metrics.get("images")
            per_image = {"per_image": 1000 * total / images} if images else {}
            rows.append({"name": record.stem, "phases": phases, "total": total, **per_image})
    return rows


def training_curves(run_dir: Path) -> list[str]:
    """A small plot for each figure that was logged while training."""
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    logged = [key.removeprefix(TRAINING) for key in (rows[0] if rows else {}) if key.startswith(TRAINING)]
    plots = []
    for name in dict.fromkeys([*FIRST_CURVES, *logged]):
        points = [(int(row["step"]), float(row[TRAINING + name])) for row in rows if row.get(TRAINING + name)]
        if len(points) > 1:
            steps, values = zip(*points, strict=True)
            plots.append(line_plot(CURVE_TITLES.get(name, name.replace("_", " ")), steps, values))
    return plots
