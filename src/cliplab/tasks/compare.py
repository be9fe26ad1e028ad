"""task=compare: compare several runs."""

from pathlib import Path

from cliplab.reporting.comparison import write_comparison
from cliplab.runs.selection import is_pattern, selected_runs, short_folders
from cliplab.runs.sweep import summarise_runs
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import named_run

MOST_PAIRED = 8  # runs that are tested against each other image by image


def run(job: Job) -> Outcome:
    """Compare runs: those of ``run=[<dir>,<dir>,…]`` image by image, with paired tests; those of a pattern or of a folder
    above them as the jobs of a sweep, and image by image, too, when they are few. Returns the page's path."""
    named = job.config["run"]
    if isinstance(named, list) and not any(map(is_pattern, named)):
        folders = [named_run("run", one) for one in named]
        if len(folders) < 2:
            raise ConfigError(AT_LEAST)
        return Outcome(write_comparison(job.run_dir, folders))
    if not named:
        raise ConfigError(AT_LEAST)
    folders = selected_runs("run", named)
    if len(folders) < 2:
        raise ConfigError(f"{AT_LEAST}; {named} names one")
    page = summarise_runs(job.run_dir, folders, short_folders(folders), f"{len(folders)} runs of {_title(named)}")
    evaluated = [folder for folder in folders if any((folder / "results").glob("*.json"))]
    if 2 <= len(evaluated) <= MOST_PAIRED:
        print(write_comparison(job.run_dir, evaluated))
    return Outcome(page)


AT_LEAST = 'run: task=compare needs two run folders or more; run=[<dir>,<dir>] or "run=logs/train/emoji/*"'


def _title(named: object) -> str:
    return ", ".join(map(str, named)) if isinstance(named, list) else str(Path(str(named)))
