"""Records of jobs, read from their folders, which are the only truth about them."""

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cliplab.evaluation.kind import kind_of
from cliplab.program import command_line, hydra_quoted
from cliplab.reporting.results import read_history
from cliplab.reporting.sweep.drawings import Series
from cliplab.reporting.sweep.jobs import JobRecord, Metric, Setting
from cliplab.reporting.sweep.typed import UNKEPT, read_typed, readable_yaml, typed_values, value_text, with_defaults
from cliplab.runs.outcome import read_manifest
from cliplab.runs.status import status_of

GOES_ON = ("interrupted", "preempted", "lost", "failed")
MOST_CURVES, IN_COLOUR = 150, 5


def last_figures(folder: Path) -> tuple[dict[str, float], int | None]:
    """The figures of the latest evaluation of each set, by logged name, and its step: what a run that did not finish
    reached."""
    figures: dict[str, float] = {}
    step = None
    try:
        history = read_history(folder)
    except (OSError, ValueError):
        return {}, None
    for line in history:
        kind = kind_of(line.get("task", "zeroshot_classification"), line["metrics"])
        figures |= {kind.logged(line["set"], name): value for name, value in line["metrics"].items()}
        step = line["step"]
    return figures, step


def last_step(folder: Path) -> int | None:
    """The last step that was logged, which is how far a run came that did not finish."""
    steps, _ = curve_of(folder, "step")
    return int(max(steps)) if steps else None


def _repeat(folder: Path, typed: Sequence[str], status: str) -> str:
    """The command that goes on with a job, where it has a checkpoint, or else that does it again alone."""
    if status in GOES_ON and (folder / "checkpoints" / "last.ckpt").is_file():
        return command_line(f"resume={hydra_quoted(folder)}")
    kept = [word for word in typed if word.partition("=")[0] not in (*UNKEPT, "sweep", "launcher")]
    return command_line(*kept)


def read_job(folder: Path, name: str) -> JobRecord:
    """The record of one job; ``not started`` when nothing was written."""
    facts, typed = read_manifest(folder), read_typed(folder)
    status = "not started" if not facts and not typed else status_of(facts)
    finals = facts.get("final") or {}
    step, figures_step = facts.get("step") or (facts.get("data") or {}).get("steps"), None
    if not finals:
        finals, figures_step = last_figures(folder)
        finals = finals if figures_step else {}  # what a model says before it is trained is no figure of the job
        step = max((s for s in (facts.get("step"), last_step(folder), figures_step) if s is not None), default=None)
    figures = {str(key): float(value) for key, value in finals.items() if _is_number(value)}
    optimized = facts.get("optimized_metric") or {}
    if _is_number(optimized.get("value")):
        figures.setdefault(str(optimized["name"]), float(optimized["value"]))
    repeat = "" if status == "finished" else _repeat(folder, typed, status)
    error = str(facts.get("error") or "")
    return JobRecord(name, folder, status, typed_values(typed), figures, step, figures_step, error, repeat)


def read_jobs(folders: Sequence[Path], names: Sequence[str]) -> list[JobRecord]:
    """The records of jobs, each with a value for whatever was typed for any of them."""
    jobs = [read_job(folder, name) for folder, name in zip(folders, names, strict=True)]
    typed = with_defaults(folders, [job.typed for job in jobs])
    return [replace(job, typed=values) for job, values in zip(jobs, typed, strict=True)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def optimized_metric(folders: Sequence[Path]) -> Metric | None:
    """The metric that the jobs say they are compared by: in their manifests, or else in their configs."""
    for folder in folders:
        name = (read_manifest(folder).get("optimized_metric") or {}).get("name")
        if name:
            return Metric.named(str(name))
    names = [value_text(readable_yaml(folder / "config.yaml"), "optimized_metric") for folder in folders[:3]]
    return next((Metric.named(name) for name in names if name), None)


def curve_of(folder: Path, name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a logged figure, from metrics.csv."""
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf8") as file:
            rows = [(row.get("step"), row.get(name)) for row in csv.DictReader(file)]
        points = [(float(step), float(value)) for step, value in rows if step and value]
    except (OSError, ValueError, csv.Error):
        return [], []
    points = [(step, value) for step, value in points if math.isfinite(value)]
    return [step for step, _ in points], [value for _, value in points]


def curves_of(settings: Sequence[Setting], others: Sequence[JobRecord], metric: Metric) -> list[Series]:
    """The learning curves of the jobs, those of the best settings with their place."""
    wanted = [(job, setting.label, place) for place, setting in enumerate(settings) for job in setting.jobs]
    wanted += [(job, "", IN_COLOUR) for job in others]
    series = []
    for job, label, place in wanted[:MOST_CURVES]:
        xs, ys = curve_of(job.folder, metric.name)
        if len(xs) > 1:
            series.append(Series(label, xs, ys, place if place < IN_COLOUR else None))
    return series
