"""task=runs: the runs there are, filtered and sorted, and a way to remove some."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from cliplab.rules import Natural
from cliplab.runs.listing import RunRow, all_runs, find_runs, names_in, ordered, selected
from cliplab.runs.selection import runs_to_remove
from cliplab.runs.status import RUNNING
from cliplab.runs.table import form_of, write_table
from cliplab.settings.config import ConfigError, did_you_mean, tags_of
from cliplab.settings.job import Job, Outcome
from cliplab.text import listed, shortened

WIDTH, INDENT = 100, "    "


class Options(TypedDict):
    limit: Natural | None


def run(job: Job) -> Outcome:
    """List the runs below ``run=``, or all of them; with ``delete=`` remove some. Returns the path of ``out=``, if any."""
    config = job.config
    where = _where(job)
    place = Path(str(config["run"] or config["paths"]["logs"])).expanduser()
    if not place.is_dir():
        raise ConfigError(f"run: {place} is no folder; name one with runs below it")
    out = Path(str(config["out"])).expanduser() if config["out"] else None
    if out is not None:
        form_of("out", out)
    rows = all_runs(place)
    chosen = ordered(selected(rows, where), config["sort"])
    if config["delete"] not in (None, False):
        logs = Path(str(config["paths"]["logs"])).expanduser()
        _delete(_to_delete(config["delete"], chosen, bool(where), logs), yes=config["yes"])
        return Outcome(None)
    if out is not None:
        return Outcome(write_table(out, _columns(chosen)))
    _print(chosen, len(rows), place, config["task"]["limit"], [*names_in(where), (config["sort"] or "").lstrip("-")])
    if not chosen and {"experiment", "name"} & set(job.typed_keys):
        print(_other_experiments(config["name"], rows))
    return Outcome(None)


def _where(job: Job) -> str:
    """The conditions of ``where=``, with those of ``experiment=``, ``name=`` and ``tags=`` that were typed."""
    parts = [job.config["where"]] if job.config["where"] else []
    if {"experiment", "name"} & set(job.typed_keys):
        parts.append(f"experiment={job.config['name']}")
    parts += [f"tags={tag}" for tag in tags_of(job.config)]
    return " and ".join(parts)


def _other_experiments(name: str, rows: Sequence[RunRow]) -> str:
    there = list(dict.fromkeys(row.experiment for row in rows if row.experiment))
    if name in there:
        return f"experiment: there are runs of {name}, and none fits the other filters"
    return f"experiment: no run of {name}{did_you_mean(name, there)}; there are runs of {listed(there) or 'none'}"


def age(seconds: float) -> str:
    """``5 s``, ``12 min``, ``3 h``, ``2 d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _metric(row: RunRow, asked: Sequence[str]) -> str:
    """The figures that were asked for, or else the run's own."""
    named = [(name, row.value(name)) for name in dict.fromkeys(asked) if name in row.figures or _is_figure(row, name)]
    if named:
        return ", ".join(f"{name} {_shown(value)}" for name, value in named)
    if row.metric is None:
        return str(row.facts.get("error") or "")[:60]
    name, value = row.metric
    return f"{'/'.join(name.split('/')[-2:])} {_shown(value)}"


def _is_figure(row: RunRow, name: str) -> bool:
    return bool(name) and any(key.endswith("/" + name) for key in row.figures)


def _print(rows: Sequence[RunRow], of: int, place: Path, limit: int | None, asked: Sequence[str]) -> None:
    """Two lines a run, which fit a narrow terminal."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDTH)
    shown = rows[: limit or None]
    for row in shown:
        facts = f"{row.status:<11} {age(row.age):>6} {size(row.disk):>7}  {row.experiment}  "
        print(shortened(facts + "  ".join(filter(None, [_metric(row, asked), row.label])), width))
        tags = "".join(f" #{tag}" for tag in row.tags)
        print(f"{INDENT}{row.folder}{tags}" + (f'  "{shortened(row.note, width)}"' if row.note else ""))
    left = f"; {len(rows) - len(shown)} more with task.limit=null" if len(shown) < len(rows) else ""
    print(f"{len(rows)} of {of} runs in {place}{left}")


def _columns(rows: Sequence[RunRow]) -> dict[str, list[Any]]:
    """A table of all of it, by column."""
    facts: dict[str, list[Any]] = {}
    for name in ("run", "status", "experiment", "task", "typed", "seed", "age", "duration", "disk", "tags", "note"):
        values = [row.value(name) if name != "typed" else row.label for row in rows]
        facts[name] = [" ".join(value) if isinstance(value, list) else value for value in values]
    figures = dict.fromkeys(name for row in rows for name in row.figures)
    return {**facts, **{name: [row.figures.get(name) for row in rows] for name in figures}}


def _to_delete(named: Any, chosen: Sequence[RunRow], filtered: bool, logs: Path) -> list[Path]:
    """The folders to remove. ``true`` stands for what the filters leave. Raises ConfigError without a filter."""
    if named is True:
        if not filtered:
            raise ConfigError(
                "delete: which runs? name a folder or a pattern, or filter with where=, tags= or experiment="
            )
        return [row.folder for row in chosen]
    return runs_to_remove("delete", named, logs)


def _delete(folders: Sequence[Path], yes: bool) -> None:
    """Remove the folders once that is confirmed. Raises ConfigError where a run still runs, or nobody can be asked."""
    rows = [row for folder in folders for row in find_runs(str(folder))]
    running = [row for row in rows if row.status == RUNNING]
    if running:
        raise ConfigError(f"delete: {running[0].folder} is still running; stop it first, or leave it out")
    if not folders:
        print("no run fits; nothing is removed")
        return
    for folder in folders:
        print(folder)
    total = size(sum(row.disk for row in rows))
    question = f"remove {len(folders)} folder{'s' if len(folders) > 1 else ''} with {len(rows)} runs, {total}?"
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"delete: {question} Nobody can be asked here; yes=true removes without asking")
        if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing is removed")
            return
    for folder in folders:
        shutil.rmtree(folder)
    print(f"removed {len(folders)} folders, {total}")
