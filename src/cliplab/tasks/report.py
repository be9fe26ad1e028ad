"""task=report: rebuild the pages of a run, a comparison or a multirun from their files."""

from pathlib import Path

from cliplab.reporting.comparison import write_comparison
from cliplab.reporting.html import write_report
from cliplab.reporting.results import read_json
from cliplab.runs.sweep import summarise
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job


def run(job: Job) -> None:
    """Write the pages of ``run=<folder>`` again and print the page's path."""
    config = job.config
    if not config["run"]:
        raise ConfigError("run: task=report needs a run folder; run=logs/train/<experiment>/<run>")
    folder = Path(config["run"])
    compared = read_json(folder / "comparison.json")
    if (folder / "manifest.json").is_file():
        print(write_report(folder))
    elif compared:
        print(write_comparison(folder, [Path(run["folder"]) for run in compared["runs"]]))
    elif (folder / "summary.csv").is_file():
        summarise(folder)
    else:
        raise ConfigError(f"run: {folder} is no run folder, it has no manifest.json")
