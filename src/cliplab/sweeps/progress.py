"""How far a job is, read from its folder while it runs."""

import csv
from dataclasses import dataclass
from pathlib import Path

from cliplab.evaluation.kind import kind_of
from cliplab.reporting.results import read_history
from cliplab.runs.outcome import read_manifest


@dataclass(frozen=True)
class Progress:
    """``step`` of ``steps``; the ``latest`` of so many ``evaluations``, the ``best`` of those of whole sets; None where
    nothing is known yet."""

    step: int | None = None
    steps: int | None = None
    latest: float | None = None
    best: float | None = None
    evaluations: int = 0

    @property
    def part(self) -> float:
        """Of the work, in [0, 1]."""
        return min(1.0, self.step / self.steps) if self.step and self.steps else 0.0


def read_progress(folder: Path, metric: str, more_is_better: bool) -> Progress:
    """From manifest.json and metrics.csv. What is being written just now counts as not there."""
    data = read_manifest(folder).get("data")
    steps = data.get("steps") if isinstance(data, dict) else None
    step, values = None, dict[int, float]()
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf8") as file:
            for row in csv.DictReader(file):
                step = int(row["step"])
                if row.get(metric):
                    values[step] = float(row[metric])
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        pass
    steps = steps if isinstance(steps, int) else None
    if not values:
        return Progress(step, steps)
    partial = _partial(folder, metric)
    whole = [value for at, value in values.items() if at not in partial]
    best = (max if more_is_better else min)(whole, default=None)
    return Progress(step, steps, list(values.values())[-1], best, len(values))


def _partial(folder: Path, metric: str) -> set[int]:
    """The steps at which the metric is of a part of its set."""
    found = set()
    try:
        for line in read_history(folder):
            kind = kind_of(line["task"], line["metrics"])
            if line["subset"] and metric in [kind.logged(line["set"], name) for name in line["metrics"]]:
                found.add(line["step"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return found
