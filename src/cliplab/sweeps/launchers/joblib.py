"""launcher=joblib: several jobs side by side on this machine, each in a process of its own with its share of the devices.

Named as Hydra's launcher for the same purpose, whose workers are used again. Such a worker cannot be given another GPU once
torch has seen one, and when one is killed, all jobs are lost. A process for each job costs seconds of imports.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress

from cliplab.rules import Count
from cliplab.sweeps.devices import share, usable_core_numbers, variables, visible_gpus
from cliplab.sweeps.jobs import Job
from cliplab.sweeps.launchers.basic import OUTPUT
from cliplab.sweeps.launchers.launcher import Here
from cliplab.sweeps.launchers.process import JobProcess

MOMENT = 0.2  # seconds between two looks at the processes


class SideBySide:
    """``jobs`` at a time. Of four GPUs each of four jobs gets one, each of two jobs two. Without GPUs each gets its share of
    the cores."""

    elsewhere = False

    def __init__(self, jobs: Count = 2) -> None:
        self.slots = jobs
        self.places: dict[int, JobProcess] = {}

    def prepare(self, here: Here) -> None:
        self.gpus, self.cores = visible_gpus(), list(map(str, usable_core_numbers()))

    def start(self, job: Job) -> None:
        place = next(i for i in range(self.slots) if i not in self.places)
        process = JobProcess(job, variables(self.gpus, self.slots, place), job.folder / OUTPUT)
        self.places[place] = process
        if not self.gpus and len(self.cores) >= self.slots:
            with suppress(OSError):  # it may have ended already
                os.sched_setaffinity(process.pid, map(int, share(self.cores, self.slots, place)))

    def wait(self) -> Sequence[Job]:
        over = [place for place, process in self.places.items() if process.is_over()]
        if not over:
            time.sleep(MOMENT)
        return [self.places.pop(place).job for place in over]

    def stop(self) -> None:
        for process in self.places.values():
            process.ask_to_stop()
        for process in self.places.values():
            process.stop()
