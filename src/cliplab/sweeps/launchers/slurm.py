"""launcher=slurm: each job is a job of the cluster, submitted by submitit.

The command waits for them and may be ended meanwhile: the jobs go on, and the same command takes up those that it finds. A
job that the cluster preempts, or that reaches its time limit, saves a checkpoint, is queued again and goes on in its folder.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cliplab.files import whole_file
from cliplab.rules import Count
from cliplab.runs.outcome import read_manifest
from cliplab.sweeps.jobs import OVER, Job, environment, record_process_end
from cliplab.sweeps.launchers.basic import OUTPUT
from cliplab.sweeps.launchers.launcher import Here

SUBMITTED = "submitted.json"  # in a job's folder: its number in the cluster
UNKNOWN = ("UNKNOWN", "NO PROCESS AND NO RESULT")


class OnCluster:
    """``jobs`` at a time. ``executor`` is submitit's: slurm, or local for a try on this machine. ``parameters`` are those of
    its ``update_parameters``, as timeout_min, gpus_per_node, slurm_partition. ``poll_seconds`` between two looks."""

    elsewhere = True

    def __init__(
        self,
        jobs: Count = 100,
        executor: str = "slurm",
        parameters: Mapping[str, Any] | None = None,
        poll_seconds: float = 5.0,
    ) -> None:
        self.slots, self.executor, self.poll_seconds = jobs, executor, poll_seconds
        self.parameters = dict(parameters or {})
        self.running: dict[Path, tuple[Job, Any]] = {}

    def prepare(self, here: Here) -> None:
        import submitit

        self.folder = here.folder / ".submitit"
        self.submitit = submitit.AutoExecutor(folder=self.folder / "%j", cluster=self.executor)
        self.submitit.update_parameters(**self.parameters)

    def start(self, job: Job) -> None:
        submitted = self._still_there(job.folder) or self._submit(job)
        self.running[job.folder] = (job, submitted)

    def _submit(self, job: Job) -> Any:
        submitted = self.submitit.submit(OneJob(job))
        with whole_file(job.folder / SUBMITTED) as file:
            json.dump({"executor": self.executor, "job_id": submitted.job_id}, file)
        return submitted

    def _still_there(self, folder: Path) -> Any:
        """What an earlier command has submitted for this folder, when the cluster still has it."""
        try:
            facts = json.loads((folder / SUBMITTED).read_text(encoding="utf8"))
        except (OSError, ValueError):
            return None
        if facts.get("executor") != "slurm" or self.executor != "slurm":
            return None
        import submitit

        found: Any = submitit.SlurmJob(folder=self.folder / "%j", job_id=facts["job_id"])
        return None if found.done(force_check=True) or found.state in UNKNOWN else found

    def wait(self) -> Sequence[Job]:
        over = [folder for folder, (_, submitted) in self.running.items() if submitted.done()]
        if not over:
            time.sleep(self.poll_seconds)
        ended = [self.running.pop(folder) for folder in over]
        for job, _ in ended:
            if read_manifest(job.folder).get("status") not in OVER:
                record_process_end(job, None)
        return [job for job, _ in ended]

    def stop(self) -> None:
        """The jobs go on; only those of the local executor end with the command."""
        if self.executor == "slurm":
            print(f"{len(self.running)} jobs go on in the cluster; scancel ends them", flush=True)
            return
        for _, submitted in self.running.values():
            submitted.cancel()


class OneJob:
    """What runs in the cluster: the job's own process. It is pickled, and knows only the job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.process: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"job": self.job, "process": None}

    def __call__(self) -> int:
        """The status of the process. Ranks of several devices are started by the job itself, as outside of a cluster."""
        alone = {"SLURM_JOB_NAME": "interactive"}  # tells Lightning so
        with (self.job.folder / OUTPUT).open("ab") as out:
            self.process = subprocess.Popen(
                self.job.command(), env=environment(alone), stdout=out, stderr=subprocess.STDOUT
            )
        while (status := self.process.poll()) is None:
            time.sleep(0.5)
        record_process_end(self.job, status)
        return status

    def checkpoint(self) -> Any:
        """submitit calls it when the job is preempted or has reached its time limit: save, and queue again."""
        import submitit

        if self.process is not None:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.process.pid, signal.SIGTERM)
                os.waitpid(self.process.pid, 0)  # not its own wait, which this may have interrupted
        return submitit.helpers.DelayedSubmission(OneJob(self.job))
