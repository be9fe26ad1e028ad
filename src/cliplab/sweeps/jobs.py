"""One job of a sweep: its folder, how it is started, and what it ended with. Its folder is the only truth about it."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cliplab.files import whole_file
from cliplab.program import SWEEP_JOB, hydra_quoted
from cliplab.reporting.sweep.jobs import label_of, short_names
from cliplab.reporting.sweep.typed import readable_yaml
from cliplab.runs.outcome import MANIFEST, read_manifest, record_end
from cliplab.sweeps.drawing import Draw, Ended

OVER = ("finished", "failed", "pruned")  # a job that ended so is not run again
OVERRIDES = "overrides.yaml"


@dataclass(frozen=True)
class Job:
    """``overrides`` are those of the config, ``hydra`` those of Hydra itself, ``flags`` as ``--config-dir=…``."""

    folder: Path
    draw: Draw
    overrides: tuple[str, ...]
    hydra: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def label(self) -> str:
        """What tells it from the others, in short: ``lr=0.001 image_encoder=vit_tiny``."""
        values = {key.lstrip("+"): value for key, value in self.draw.values.items()}
        return label_of(values, short_names(list(values)))

    def command(self) -> list[str]:
        """The command of a process that runs the job, or goes on with it."""
        start = [sys.executable, "-m", "cliplab", *self.flags]
        if goes_on(self.folder):
            return [*start[:3], f"resume={hydra_quoted(self.folder)}"]
        own = (f"hydra.run.dir={hydra_quoted(self.folder)}", "hydra.mode=RUN")
        return [*start, *self.overrides, *self.hydra, *own]


def begin(job: Job) -> None:
    """Make the job's folder, with what it was given. What a kill left there of a job that had not begun is removed."""
    job.folder.mkdir(parents=True, exist_ok=True)
    if not goes_on(job.folder):
        for name in (MANIFEST, "composed.yaml"):
            (job.folder / name).unlink(missing_ok=True)
        with whole_file(job.folder / OVERRIDES) as file:
            yaml.safe_dump(list(job.overrides), file, allow_unicode=True)


def goes_on(folder: Path) -> bool:
    """Whether a run was begun in the folder, which resume= can go on with."""
    return (folder / "config.yaml").is_file()


def given(folder: Path) -> tuple[str, ...] | None:
    """The overrides that a job in this folder was given; None when they cannot be read."""
    words = readable_yaml(folder / OVERRIDES)
    return tuple(map(str, words)) if isinstance(words, list) else None


def only_given(folder: Path) -> bool:
    """Whether a kill came as soon as the overrides were written there."""
    return [path.name for path in folder.iterdir()] == [OVERRIDES]


def ended(job: Job, metrics: Sequence[str]) -> Ended:
    """What the job's folder says. A figure by which jobs are compared and that is no number makes the job a failed one."""
    facts = read_manifest(job.folder)
    status = str(facts.get("status", "not started"))
    figures = _figures(facts, metrics)
    if status == "finished" and figures and not all(map(math.isfinite, figures)):
        told = ", ".join(f"{m} is {v}" for m, v in zip(metrics, figures, strict=True) if not math.isfinite(v))
        record_end(job.folder, "failed", job.overrides, error=f"error: {told}")
        return Ended("failed")
    return Ended(status, figures)


def record_process_end(job: Job, status: int | None) -> None:
    """Write down how a job's process ended, where the job itself could not. ``status`` is minus a signal's number."""
    facts = read_manifest(job.folder)
    if str(facts.get("status", "running")) != "running":
        return
    if status == -9:
        told = "error: the process was killed (signal 9), as a system does that runs out of memory"
    elif status is not None and status < 0:
        told = f"error: the process was ended by signal {-status}"
    elif status is None:
        told = "error: the cluster ended the job, and it left no result"
    else:
        told = f"error: the process ended with status {status} and left no result; see {job.folder / 'output.log'}"
    record_end(job.folder, "failed", job.overrides, error=told)


def _figures(facts: Mapping[str, object], metrics: Sequence[str]) -> tuple[float, ...] | None:
    """The metrics of a manifest; None when one was not logged."""
    final, optimized = facts.get("final"), facts.get("optimized_metric")
    known = dict(final) if isinstance(final, dict) else {}
    if isinstance(optimized, dict) and optimized.get("value") is not None:
        known.setdefault(optimized.get("name"), optimized["value"])
    found = [known.get(metric) for metric in metrics]
    return tuple(float(v) for v in found if v is not None) if all(v is not None for v in found) else None


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Of a job's process."""
    return {**os.environ, **more, SWEEP_JOB: str(os.getpid())}
