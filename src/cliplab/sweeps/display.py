"""The jobs of a sweep on the screen: one line for each, which moves on a terminal; elsewhere a line for each change."""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cliplab.runs.outcome import read_manifest
from cliplab.sweeps.drawing import Ended
from cliplab.sweeps.jobs import OVER, Job
from cliplab.sweeps.plan import Plan
from cliplab.sweeps.progress import Progress, read_progress
from cliplab.text import duration, listed, shortened

EVERY = {True: 1.0, False: 5.0}  # seconds between two looks at the folders, on a terminal and elsewhere
COLUMNS = 80  # of a line in a file
SHOWN_OVER = 5  # of the jobs that are over, the latest


@dataclass
class Line:
    """What is known of one job. ``seconds`` is how long it took, None while it runs and where it was there before. ``note``
    is what is wrong with one that finished."""

    job: Job
    status: str = "running"
    began: float = field(default_factory=lambda: time.monotonic())
    seconds: float | None = None
    progress: Progress = field(default_factory=Progress)
    note: str = ""


class Lines:
    """The lines of all jobs, and how long the rest will take. Several threads use it."""

    def __init__(self, plan: Plan, total: int, slots: int) -> None:
        self.metric, self.more = plan.metrics[0], plan.facts["direction"][0] == "maximize"
        self.short = self.metric.rpartition("/")[2]
        self.total, self.slots = total, slots
        self.lines: dict[str, Line] = {}
        self.out, self.err = sys.stdout, sys.stderr  # a job in this process has them redirected
        self.lock = threading.RLock()

    def begin(self) -> None:
        """Called once, before the first job."""

    def skipped(self, job: Job, result: Ended) -> None:
        with self.lock:
            self.lines[job.name] = Line(job, result.status, progress=self._at_end(job, result))

    def started(self, job: Job) -> None:
        with self.lock:
            self.lines[job.name] = Line(job)

    def ended(self, job: Job, result: Ended) -> None:
        with self.lock:
            line = self.lines[job.name]
            line.status, line.seconds = result.status, time.monotonic() - line.began
            line.progress = self._at_end(job, result)
            if result.status == "finished" and result.figures is None:
                line.note = _without_metric(self.metric, read_manifest(job.folder).get("final"))

    def _at_end(self, job: Job, result: Ended) -> Progress:
        progress = read_progress(job.folder, self.metric, self.more)
        if result.figures is None:
            return progress
        value = result.figures[0]
        known = [value] if progress.best is None else [value, progress.best]
        best = (max if self.more else min)(known)
        return replace(progress, latest=value, best=best)

    def refresh(self) -> list[Line]:
        """Read the folders of running jobs; those with a new evaluation come back."""
        changed = []
        with self.lock:
            running = [line for line in self.lines.values() if line.status == "running"]
        for line in running:
            progress = read_progress(line.job.folder, self.metric, self.more)
            with self.lock:
                if line.status == "running":
                    if progress.evaluations != line.progress.evaluations:
                        changed.append(line)
                    line.progress = progress
        return changed

    @property
    def best(self) -> Line | None:
        """Of the jobs that finished, as in the leaderboard: what another had before it ended does not count."""
        over = [line for line in self.lines.values() if line.status == "finished"]
        done = [line for line in over if line.progress.latest is not None]
        return (max if self.more else min)(done, key=lambda line: line.progress.latest or 0.0, default=None)

    def seconds_left(self) -> float | None:
        """For the whole sweep: as long as the jobs took that are over, or as far as the running ones are."""
        took = [line.seconds for line in self.lines.values() if line.seconds and line.status == "finished"]
        running = [line for line in self.lines.values() if line.status == "running"]
        now = time.monotonic()
        took = took or [(now - line.began) / line.progress.part for line in running if line.progress.part > 0]
        if not took:
            return None
        each = sum(took) / len(took)
        begun = sum(max(0.0, each - (now - line.began)) for line in running)
        return (begun + each * max(0, self.total - len(self.lines))) / min(self.slots, max(1, self.total))

    def summary(self) -> str:
        """Such as ``7 of 12 jobs, 1 failed; best 0.5512 (job 3); about 12 min left``."""
        over = [line.status for line in self.lines.values() if line.status != "running"]
        parts = [f"{len(over)} of {self.total} jobs"]
        parts += [f"{over.count(status)} {status}" for status in ("pruned", "failed") if status in over]
        text, best, left = ", ".join(parts), self.best, self.seconds_left()
        if best is not None:
            text += f"; best {best.progress.latest:.4f} (job {best.job.name})"
        if left is not None and len(over) < self.total:
            text += f"; about {duration(left)} left"
        return text


def figures(line: Line) -> list[str]:
    """Step, latest and best value of a job, as far as they are known; of a failed one the step alone."""
    p = line.progress
    step = "" if p.step is None else f"step {p.step:,}" + (f"/{p.steps:,}" if p.steps else "")
    if line.status == "failed":
        return [step, "", ""]
    value = "" if p.latest is None else f"{p.latest:.4f}"
    best = "" if p.best is None or (line.status in OVER and p.best == p.latest) else f"best {p.best:.4f}"
    return [step, value, best]


def error_of(line: Line) -> str:
    """The error line of a job that failed, or the note of one that finished."""
    return str(read_manifest(line.job.folder).get("error") or "") if line.status == "failed" else line.note


def _without_metric(metric: str, final: Any) -> str:
    logged = f"; it logged {listed([*final])}" if isinstance(final, Mapping) and final else ""
    return f"sweep.metric: {metric} was not logged, so that this job is not compared{logged}"


class Printed(Lines):
    """A line for each change, for a file, a pipe or a scheduler's log. The metric is named once."""

    def begin(self) -> None:
        way = "higher" if self.more else "lower"
        print(f"{self.total} jobs, compared by {self.metric}, {way} is better", file=self.out, flush=True)

    def skipped(self, job: Job, result: Ended) -> None:
        super().skipped(job, result)
        line = self.lines[job.name]
        self._say(line, f"{result.status} before", self._value(line), job.label)

    def started(self, job: Job) -> None:
        super().started(job)
        self._say(self.lines[job.name], "started", job.label)

    def ended(self, job: Job, result: Ended) -> None:
        super().ended(job, result)
        line = self.lines[job.name]
        self._say(line, f"{result.status} in {duration(line.seconds or 0)}", self._value(line), job.label)
        if error_of(line):
            print(f"job {job.name}: {error_of(line)}", file=self.err, flush=True)
        if len(self.lines) < self.total:  # the last one is said at the end
            print(f"    {self.summary()}", file=self.out, flush=True)

    def moved(self) -> None:
        """Say what is new of the running jobs."""
        for line in self.refresh():
            left = self.seconds_left()
            self._say(line, "running", self._value(line), f"about {duration(left)} left" if left is not None else "")

    def _say(self, line: Line, status: str, *words: str) -> None:
        told = "  ".join(word for word in (f"job {line.job.name} {status}", *words) if word)
        print(shortened(told, COLUMNS), file=self.out, flush=True)

    def _value(self, line: Line) -> str:
        step, value, best = figures(line)
        return ", ".join(word for word in (step, f"{self.short} {value}" if value else "", best) if word)


class Moving(Lines):
    """A table on a terminal: the running jobs and the latest that are over."""

    def moved(self) -> None:
        self.refresh()

    def __rich__(self) -> Table:
        with self.lock:
            table = Table(box=None, pad_edge=False, title=self.summary(), title_justify="left", expand=False)
            widths = {"job": 3, "status": 9, "step": 9, self.short: 8, "best": 7, "settings": 8}
            for column, width in widths.items():
                table.add_column(column, overflow="ellipsis", no_wrap=True, min_width=width)
            lines = list(self.lines.values())
            over = [line for line in lines if line.status != "running"][-SHOWN_OVER:]
            for line in [*over, *(line for line in lines if line.status == "running")]:
                step, value, best = figures(line)
                told = error_of(line) or line.job.label
                table.add_row(
                    line.job.name, line.status, step.removeprefix("step "), value, best.removeprefix("best "), told
                )
            return table


@contextmanager
def show(plan: Plan, total: int, slots: int) -> Iterator[Lines]:
    """The display of a sweep, while it runs."""
    console = Console(file=sys.stdout)
    over = threading.Event()
    lines = (Moving if console.is_terminal else Printed)(plan, total, slots)
    watching = threading.Thread(target=_watch, args=(lines, over, EVERY[console.is_terminal]), daemon=True)
    lines.begin()
    watching.start()
    try:
        if isinstance(lines, Moving):
            with Live(lines, console=console, refresh_per_second=2, redirect_stdout=False, redirect_stderr=False):
                yield lines
        else:
            yield lines
    finally:
        over.set()
        watching.join()
        print(lines.summary(), file=lines.out, flush=True)


def _watch(lines: "Printed | Moving", over: threading.Event, every: float) -> None:
    while not over.wait(every):
        lines.moved()
