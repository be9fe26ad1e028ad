"""A job of a sweep as its folder tells it, and the settings that jobs share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cliplab.evaluation.kind import is_share
from cliplab.reporting.sweep.spread import Spread, spread

SEED = "seed"  # what differs between repetitions of one setting
LESS_IS_BETTER = ("loss", "_rank", "ece", "seconds")  # endings of names of figures
LONG = 8  # characters of a number that a sampler drew


@dataclass(frozen=True)
class JobRecord:
    """``typed`` are the values typed for the job, by key. ``step`` is how far it came. ``figures`` are its last figures by
    logged name; ``figures_step`` is the step of those of a job that did not finish. ``repeat`` is the command that does the
    same again, or goes on with it."""

    name: str
    folder: Path
    status: str
    typed: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None
    figures_step: int | None = None
    error: str = ""
    repeat: str = ""


class Metric(NamedTuple):
    """What jobs are compared by. ``maximise`` says whether more is better."""

    name: str
    maximise: bool = True

    @classmethod
    def named(cls, name: str) -> "Metric":
        """More is better, but of a loss, a rank, a calibration error or a time less is."""
        return cls(name, not name.endswith(LESS_IS_BETTER))

    @property
    def words(self) -> str:
        return f"{self.name}, {'higher' if self.maximise else 'lower'} is better"

    def of(self, job: JobRecord) -> float | None:
        """A job's figure; None when there is none or it is no number."""
        value = job.figures.get(self.name)
        return value if value is not None and math.isfinite(value) else None

    def badness(self, value: float) -> float:
        """What to sort by, best first."""
        return -value if self.maximise else value


@dataclass(frozen=True)
class Setting:
    """Jobs that differ in nothing but their seed. ``values`` are those of the keys that differ in the sweep, ``share`` says
    that ``figures`` are shares."""

    label: str
    values: Mapping[str, str]
    jobs: Sequence[JobRecord]
    figures: Sequence[float]
    share: bool = False

    @property
    def spread(self) -> Spread:
        return spread(self.figures, self.share)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """For each dotted key the fewest of its last parts that tell it from the others: ``lr`` for ``optimizer.lr``."""
    parts = {key: key.replace("/", ".").split(".") for key in keys}
    names = {}
    for key, words in parts.items():
        for length in range(1, len(words) + 1):
            short = words[-length:]
            if not any(other[-length:] == short for name, other in parts.items() if name != key):
                break
        names[key] = ".".join(short)
    return names


def differing_keys(jobs: Sequence[JobRecord]) -> list[str]:
    """The typed keys whose values differ between jobs, in the order in which they were typed."""
    keys = dict.fromkeys(key for job in jobs for key in job.typed)
    return [key for key in keys if len({job.typed.get(key) for job in jobs}) > 1]


def label_of(values: Mapping[str, str], names: Mapping[str, str]) -> str:
    """``lr=0.001 image_encoder=vit_tiny``; a value that was not typed is left out."""
    return " ".join(f"{names[key]}={readable(value)}" for key, value in values.items() if value)


def readable(text: str) -> str:
    """A typed value, with four digits where it is a number of more."""
    value = number(text) if len(text) > LONG else None
    return text if value is None else f"{value:.4g}"


def settings_of(jobs: Sequence[JobRecord], metric: Metric, keys: Sequence[str]) -> list[Setting]:
    """The settings of the finished jobs, best mean first. ``keys`` are those that differ; the seed tells no setting."""
    names = short_names([key for key in keys if key != SEED])
    groups: dict[tuple[str, ...], list[JobRecord]] = {}
    for job in jobs:
        if job.status == "finished" and metric.of(job) is not None:
            groups.setdefault(tuple(job.typed.get(key, "") for key in names), []).append(job)
    found = []
    for values, group in groups.items():
        by_key = dict(zip(names, values, strict=True))
        figures = [value for job in group if (value := metric.of(job)) is not None]
        share = is_share(metric.name) and all(0 <= value <= 1 for value in figures)
        found.append(Setting(label_of(by_key, names) or "all jobs", by_key, group, figures, share))
    return sorted(found, key=lambda setting: metric.badness(setting.spread.mean))


def pareto_front(jobs: Sequence[JobRecord], metrics: Sequence[Metric]) -> list[JobRecord]:
    """The finished jobs that no other is at least as good as in every metric and better in one."""
    points = []
    for job in jobs:
        values = [metric.of(job) for metric in metrics]
        if job.status == "finished" and None not in values:
            points.append((job, tuple(m.badness(v) for m, v in zip(metrics, values, strict=True) if v is not None)))

    def beaten(point: tuple[float, ...]) -> bool:
        return any(other != point and all(x <= y for x, y in zip(other, point, strict=True)) for _, other in points)

    return [job for job, point in points if not beaten(point)]


def number(text: str | None) -> float | None:
    """A typed value as a number; None where it is none."""
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
