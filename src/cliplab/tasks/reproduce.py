"""task=reproduce: the same config once more, what differs now, and whether the same comes out."""

from typing import TypedDict

from cliplab.runs.selection import is_multirun
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import named_run


class Options(TypedDict):
    check_only: bool


def check(job: Job) -> None:
    """Raises ConfigError when no run is named, or one without a config."""
    if not job.config["run"]:
        raise ConfigError("run: task=reproduce needs a run; run=logs/train/<experiment>/<run>")
    folder = named_run("run", job.config["run"])
    if is_multirun(folder):
        raise ConfigError(
            f"run: {folder} is a sweep, and one run is made again at a time; run={folder / '0'} is a job of it"
        )
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"run: {folder} has no config.yaml, so that it is not known how it was made")


def run(job: Job) -> Outcome:
    """Compose the config of ``run=``, say what differs, and run its task. Returns what that returns."""
    from cliplab.assembly.reproducing import reproduce

    return reproduce(job, named_run("run", job.config["run"]).resolve())
