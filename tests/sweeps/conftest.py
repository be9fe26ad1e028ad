"""Sweeps whose jobs are no runs: a launcher writes into each job's folder what a run would have written."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cliplab.runs.outcome import record_end
from cliplab.sweeps.conductor import Conductor
from cliplab.sweeps.drawing import Ended, Method, Setting
from cliplab.sweeps.jobs import Job
from cliplab.sweeps.launchers.launcher import Here
from cliplab.sweeps.plan import Plan
from cliplab.sweeps.space import read_space


class Killed(BaseException):
    """Stands for the end of the command's process."""


class Pretended:
    """Ends each job at once with ``value(job)``: a number, a status, or an exception that ends the sweep. ``ran`` are the
    names of the jobs in their order; ``at_once`` start before the first is over."""

    def __init__(self, value: Callable[[Job], Any], slots: int = 1) -> None:
        self.value, self.slots = value, slots
        self.ran: list[str] = []
        self.waiting: list[Job] = []

    def prepare(self, here: Here) -> None:
        pass

    def start(self, job: Job) -> None:
        self.ran.append(job.name)
        self.waiting.append(job)
        record_end(job.folder, "running", job.overrides)

    def wait(self) -> Sequence[Job]:
        job = self.waiting.pop(0)
        value = self.value(job)
        if isinstance(value, BaseException):
            raise value
        if isinstance(value, str):
            record_end(job.folder, value, job.overrides)
        else:
            figures = dict(zip(("a", "b"), [value] if isinstance(value, float) else value, strict=False))
            record_end(job.folder, "finished", job.overrides, final=figures)
        return [job]

    def stop(self) -> None:
        pass


class Unseen:
    def skipped(self, job: Job, result: Ended) -> None: ...

    def started(self, job: Job) -> None: ...

    def ended(self, job: Job, result: Ended) -> None: ...


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Pretended]:
    """Run or go on with a sweep in ``tmp_path/<name>``; the launcher comes back."""

    def run(
        make: Callable[[Setting], Method],
        typed: Sequence[str],
        value: Callable[[Job], Any],
        *,
        name: str = "one",
        metric: Sequence[str] = ("a",),
        direction: str = "maximize",
        slots: int = 1,
        files: Mapping[str, str] | None = None,
        storage: str | None = None,
        retry_failed: bool = False,
    ) -> Pretended:
        folder, space = tmp_path / name, read_space(typed, files or {})
        folder.mkdir(exist_ok=True)
        study = {"storage": storage or str(folder / "study.journal"), "name": "s", "shared": storage, "id": name}
        ways = (direction,) * len(metric)
        method = make(Setting(space, folder, 1, ways, lambda key: None, {**study, "metric": metric[0]}))
        plan = Plan(folder, space, {"retry_failed": retry_failed}, {"metric": metric, "direction": ways})
        launcher = Pretended(value, slots)
        with contextlib.suppress(Killed):
            Conductor(plan, method, launcher, Unseen()).conduct()
        return launcher

    return run


def bowl(job: Job) -> float:
    """Best at lr = 1e-3 and width = 5."""
    lr, width = float(job.draw.values["lr"]), float(job.draw.values.get("width", 5))
    return -((math.log10(lr) + 3) ** 2) - (width - 5) ** 2
