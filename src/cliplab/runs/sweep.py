"""The leaderboard of a multirun, or of any runs: from their folders alone to the screen, summary.csv and summary.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cliplab.reporting.sweep.jobs import Metric, Setting, differing_keys, settings_of
from cliplab.reporting.sweep.pace import section
from cliplab.reporting.sweep.page import write_csv, write_page
from cliplab.reporting.sweep.screen import print_leaderboard
from cliplab.reporting.sweep.verdict import Sweep
from cliplab.runs.jobs import curves_of, optimized_metric, read_jobs
from cliplab.runs.outcome import job_folders
from cliplab.runs.pace import captions_in_words, paces_of
from cliplab.runs.sweep_file import read_sweep_file

UNTOLD = Metric("value")


def summarise(folder: Path) -> Path | None:
    """Print the jobs of a multirun, best settings first, and write summary.csv and summary.html beside them. Returns the
    page's path, or None when there is no job. ``sweep.yaml`` is read where there is one; nothing needs it."""
    folders = [job for job in job_folders(folder) if any(job.iterdir())]
    if not folders:
        return None
    return summarise_runs(folder, folders, [job.name for job in folders], title=folder.name)


def summarise_runs(out: Path, folders: Sequence[Path], names: Sequence[str], title: str) -> Path:
    """The same of any runs, written into ``out``; ``names`` are what they are called."""
    facts = read_sweep_file(out)
    jobs = read_jobs(folders, names)
    metrics = metrics_of(facts) or [optimized_metric(folders) or UNTOLD]
    keys = _kept(differing_keys(jobs))
    settings = settings_of(jobs, metrics[0], keys)
    sweep = Sweep(title, metrics, jobs, settings, keys, str(facts.get("how") or ""))
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "summary.csv", sweep)
    print_leaderboard(sweep)
    print(out / "summary.csv")
    return write_page(out, sweep, curves_of(settings, sweep.others, metrics[0]), _pace(facts, settings, metrics[0]))


def _pace(facts: Mapping[str, Any], settings: Sequence[Setting], metric: Metric) -> dict[str, Any]:
    """The section on how fast settings learn, where the sweep names a ``target``."""
    target = facts.get("target")
    if not isinstance(target, int | float) or not settings:
        return {}
    notes = [text for text in (captions_in_words(settings), *(facts.get("notes") or ())) if text]
    return section(paces_of(settings, metric), float(target), metric.name, notes)


def _kept(keys: Sequence[str]) -> list[str]:
    """Without what tells nothing about a model: notes, tags, where things lie."""
    return [key for key in keys if key not in ("note", "tags") and not key.startswith(("paths.", "hydra.", "hydra/"))]


def metrics_of(facts: Mapping[str, Any]) -> list[Metric]:
    """The metrics that ``sweep.yaml`` names: ``metrics`` as a list of names, or of ``{name, direction}``, or by name their
    direction; or one ``metric`` with its ``direction``."""
    told = facts.get("metrics") or facts.get("metric") or []
    if isinstance(told, Mapping):
        told = [{"name": name, "direction": direction} for name, direction in told.items()]
    named = [told] if isinstance(told, str) else list(told)
    ways = facts.get("directions") or facts.get("direction") or []
    ways = [ways] * len(named) if isinstance(ways, str) else list(ways)
    found = []
    for place, one in enumerate(named):
        name = one if isinstance(one, str) else str(one.get("name"))
        way = ways[place] if place < len(ways) else None if isinstance(one, str) else one.get("direction")
        found.append(Metric.named(name) if way is None else Metric(name, str(way).startswith("max")))
    return found
