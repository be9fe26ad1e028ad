"""How far a job is, read from its folder while it runs."""

import csv
from dataclasses import dataclass
from pathlib import Path

from cliplab.runs.outcome import read_manifest


@dataclass(frozen=True)
class Progress:
    """``step`` of ``steps``; ``latest`` and ``best`` of so many ``evaluations``; None where nothing is known yet."""

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
    step, values = None, []
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf8") as file:
            for row in csv.DictReader(file):
                step = int(row["step"])
                if row.get(metric):
                    values.append(float(row[metric]))
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        pass
    steps = steps if isinstance(steps, int) else None
    if not values:
        return Progress(step, steps)
    return Progress(step, steps, values[-1], (max if more_is_better else min)(values), len(values))
