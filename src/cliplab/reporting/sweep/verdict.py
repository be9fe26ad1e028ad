"""What a sweep says in sentences: which setting is best, whether seeds alone explain it, what to try next."""

from collections.abc import Sequence
from typing import NamedTuple

from cliplab.evaluation.paired import holm
from cliplab.reporting.sweep.jobs import JobRecord, Metric, Setting, number, readable
from cliplab.reporting.sweep.spread import welch

LEVEL = 0.05
PRUNED = "pruned"
TEST = "Welch's t-test, two-sided"


class Sweep(NamedTuple):
    """``title`` names the sweep. ``settings`` are its finished settings, best first. ``differing`` are the typed keys whose
    values differ. ``metrics`` begins with the one that jobs are ranked by. ``how`` says in words what was swept."""

    title: str
    metrics: Sequence[Metric]
    jobs: Sequence[JobRecord]
    settings: Sequence[Setting]
    differing: Sequence[str]
    how: str = ""

    @property
    def metric(self) -> Metric:
        return self.metrics[0]

    @property
    def finished(self) -> list[JobRecord]:
        """The jobs with a figure, best first."""
        done = [job for job in self.jobs if job.status == "finished" and self.metric.of(job) is not None]
        return sorted(done, key=lambda job: self.metric.badness(self.metric.of(job) or 0.0))

    @property
    def others(self) -> list[JobRecord]:
        """The jobs that did not finish, or finished without the figure they are compared by."""
        known = {id(job) for job in self.finished}
        return [job for job in self.jobs if id(job) not in known]

    @property
    def unfinished(self) -> list[JobRecord]:
        """Those of them that somebody has to look at: not those that a search ended as hopeless."""
        return [job for job in self.others if job.status != PRUNED]


def figure(value: float) -> str:
    """Four decimals; whole numbers from a thousand on, and four digits where the value is larger still, or tiny."""
    if 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"


def with_spread(setting: Setting) -> str:
    """``0.8262 ± 0.0041``: the mean and the standard deviation over seeds."""
    found = setting.spread
    return figure(found.mean) + (f" ± {figure(found.deviation)}" if found.deviation is not None else "")


def p_against_best(settings: Sequence[Setting]) -> list[float | None]:
    """For each setting the p-value of its difference from the best, adjusted for their number (Holm 1979); None for the best
    and for what has too few seeds."""
    raw = [None, *(welch(settings[0].figures, setting.figures) for setting in settings[1:])] if settings else []
    adjusted = iter(holm([p for p in raw if p is not None]))
    return [None if p is None else next(adjusted) for p in raw]


def _as_good(settings: Sequence[Setting]) -> list[Setting]:
    """The best setting, and those that have its mean."""
    return [setting for setting in settings if setting.spread.mean == settings[0].spread.mean]


def difference(settings: Sequence[Setting]) -> str:
    """Whether the best setting differs from the second by more than seeds do."""
    if len(settings) < 2:
        return ""
    equal = len(_as_good(settings))
    if equal > 1:
        which = "All" if equal == len(settings) else "The best"
        return f"{which} {equal} settings have the same mean, so that nothing tells them apart."
    best, second = settings[:2]
    gap = abs(best.spread.mean - second.spread.mean)
    beginning = f"The best is {figure(gap)} better than the second ({second.label})"
    p = welch(best.figures, second.figures)
    if p is None:
        return f"{beginning}. Whether that is more than another seed would change is not known: repeat both with seed=1,2,3."
    words = f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"
    if p < LEVEL:
        return f"{beginning}, more than seeds explain ({TEST}: {words})."
    return f"{beginning}. Seeds alone may explain that ({TEST}: {words})."


def edges(sweep: Sweep) -> list[str]:
    """Where the best value is the smallest or largest that was tried of a number, and no other does as well."""
    found, best_ones = [], _as_good(sweep.settings)
    for key, text in (sweep.settings[0].values if sweep.settings else {}).items():
        tried = sorted({value for s in sweep.settings if (value := number(s.values.get(key))) is not None})
        best = number(text)
        alone = all(setting.values.get(key) == text for setting in best_ones)
        if alone and len(tried) > 2 and best in (tried[0], tried[-1]):
            end, way = ("smallest", "below") if best == tried[0] else ("largest", "above")
            found.append(f"The best {key}, {readable(text)}, is the {end} that was tried: look {way} it, too.")
    return found


def counts(jobs: Sequence[JobRecord]) -> str:
    """``12 jobs: 10 finished, 2 failed``."""
    by_status: dict[str, int] = {}
    for job in jobs:
        by_status[job.status] = by_status.get(job.status, 0) + 1
    told = ", ".join(f"{count} {status}" for status, count in sorted(by_status.items(), key=lambda item: -item[1]))
    return f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}: {told}"


def sentences(sweep: Sweep) -> list[str]:
    """All of it, the difference first."""
    return [text for text in (difference(sweep.settings), *edges(sweep)) if text]
