"""The loop of a sweep: choose a job, run it, tell the method what became of it.

All that is known stands in the folders. A sweep that was killed goes on with the same loop: jobs that are over are told and
not run again, one that is half done goes on from its last checkpoint, and the rest are run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cliplab.runs.outcome import holds_run, job_folders, read_manifest
from cliplab.sweeps.drawing import Draw, Ended, Method
from cliplab.sweeps.jobs import OVER, Job, begin, ended, given, only_given
from cliplab.sweeps.launchers.launcher import Launcher
from cliplab.sweeps.plan import Plan


class Display(Protocol):
    """Where a person sees how the jobs do."""

    def skipped(self, job: Job, result: Ended) -> None: ...

    def started(self, job: Job) -> None: ...

    def ended(self, job: Job, result: Ended) -> None: ...


@dataclass
class Folders:
    """The folders of a sweep's jobs: one that is there already for what was given to it, else the next number. A search has
    its own knowledge of them; only what a kill has left of a job that had not begun is found here."""

    sweep: Path
    known: dict[frozenset[str], str] = field(default_factory=dict)
    last: int = -1

    def __post_init__(self) -> None:
        for folder in job_folders(self.sweep):
            words = given(folder)
            if words is None and not holds_run(folder):
                continue  # a kill came before anything was written there
            if words is not None:
                self.known.setdefault(frozenset(words), folder.name)
            if folder.name.isdigit():
                self.last = max(self.last, int(folder.name))

    def name_for(self, draw: Draw, overrides: Sequence[str]) -> str:
        found = self.known.get(frozenset(overrides))
        if found is not None and draw.token is not None and not only_given(self.sweep / found):
            found = None  # another trial with the same values
        name = draw.folder or found
        if name is None:
            self.last += 1
            name = str(self.last)
        return name


class Conductor:
    """Runs the jobs of a sweep. ``hydra`` and ``flags`` are what a job's own process is given beside its overrides."""

    def __init__(
        self,
        plan: Plan,
        method: Method,
        launcher: Launcher,
        display: Display,
        hydra: Sequence[str] = (),
        flags: Sequence[str] = (),
    ) -> None:
        self.plan, self.method, self.launcher, self.display = plan, method, launcher, display
        self.hydra, self.flags = tuple(hydra), tuple(flags)
        self.folders = Folders(plan.folder)
        self.running: dict[Path, Job] = {}

    def conduct(self) -> None:
        """Until all jobs are over. At an interrupt the running jobs are asked to end, and are waited for."""
        try:
            more = True
            while more or self.running:
                while more and len(self.running) < self.launcher.slots:
                    more = self._begin_next()
                for job in self.launcher.wait() if self.running else ():
                    self._over(job)
        except BaseException:
            self.launcher.stop()
            raise

    def _begin_next(self) -> bool:
        """Whether there was another job."""
        draw = self.method.next()
        if draw is None:
            return False
        overrides = self.plan.space.overrides(draw.values)
        folder = self.plan.folder / self.folders.name_for(draw, overrides)
        job = Job(folder, draw, tuple(overrides), self.hydra, self.flags)
        if self._is_over(folder):
            result = ended(job, self.plan.metrics)
            self.method.tell(draw, result)
            self.display.skipped(job, result)
            return True
        begin(job)
        self.method.started(draw, folder)
        self.display.started(job)
        self.running[folder] = job
        self.launcher.start(job)
        return True

    def _is_over(self, folder: Path) -> bool:
        status = read_manifest(folder).get("status")
        return status in OVER and not (status == "failed" and self.plan.settings["retry_failed"])

    def _over(self, job: Job) -> None:
        del self.running[job.folder]
        result = ended(job, self.plan.metrics)
        if result.status in OVER:
            self.method.tell(job.draw, result)
        self.display.ended(job, result)
