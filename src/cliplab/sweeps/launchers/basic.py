"""launcher=basic: one job after the other, in the command's own process, which has imported everything already.

A job of several ranks, and one that goes on from a checkpoint, has a process of its own. Ranks of an earlier job could not
be told apart from those of the next one, and a run goes on from its own config.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cliplab.sweeps.jobs import Job, goes_on
from cliplab.sweeps.launchers.launcher import Here
from cliplab.sweeps.launchers.process import JobProcess

OUTPUT = "output.log"


class Basic:
    """``capture`` writes what a job prints into output.log of its folder; without it, it is on the screen, where a debugger
    works too."""

    slots, elsewhere = 1, False

    def __init__(self, capture: bool = True) -> None:
        self.capture = capture
        self.waiting: list[Job] = []
        self.process: JobProcess | None = None

    def prepare(self, here: Here) -> None:
        self.here = here

    def start(self, job: Job) -> None:
        self.waiting.append(job)

    def wait(self) -> Sequence[Job]:
        job = self.waiting.pop()
        if goes_on(job.folder) or self.here.ranks(job) > 1:
            self.process = JobProcess(job, {}, job.folder / OUTPUT if self.capture else None)
            self.process.wait()
            self.process = None
        else:
            with written_to(job.folder / OUTPUT) if self.capture else contextlib.nullcontext():
                self.here.run(job)
            free_memory()
        return [job]

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()


@contextlib.contextmanager
def written_to(file: Path) -> Iterator[None]:
    """What Python prints goes into the file, after what stands there."""
    with (
        file.open("a", encoding="utf8", errors="backslashreplace", buffering=1) as out,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        yield


def free_memory() -> None:
    """Give back what a job leaves behind, so that the next one finds a device as empty as it did."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
