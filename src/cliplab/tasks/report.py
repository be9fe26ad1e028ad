"""task=report: write the pages of a run, a comparison or a multirun again from their files."""

from pathlib import Path

from cliplab.reporting.comparison import write_comparison
from cliplab.reporting.html import write_report
from cliplab.reporting.results import read_json
from cliplab.runs.selection import is_multirun
from cliplab.runs.sweep import summarise
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import named_run


def run(job: Job) -> Outcome:
    """Write the pages of ``run=<folder>`` again. Returns the path of the page."""
    if not job.config["run"]:
        raise ConfigError("run: task=report needs a run folder; run=logs/train/<experiment>/<run>")
    named = Path(str(job.config["run"])).expanduser()
    if is_multirun(named) and not (named / "comparison.json").is_file():
        return Outcome(summarise(named))
    folder = named_run("run", job.config["run"])
    compared = read_json(folder / "comparison.json")
    if (folder / "manifest.json").is_file():
        return Outcome(write_report(folder))
    if compared:
        return Outcome(write_comparison(folder, [Path(run["folder"]) for run in compared["runs"]]))
    return Outcome(summarise(folder))
