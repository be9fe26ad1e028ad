"""All runs at a glance: their folders read quickly, filtered and sorted."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cliplab.evaluation.kind import headlines
from cliplab.reporting.sweep.jobs import label_of, number, short_names
from cliplab.reporting.sweep.typed import read_typed, typed_values
from cliplab.runs.index import INDEX, Index, read_facts
from cliplab.runs.outcome import DEEPEST, MANIFEST, MARKS
from cliplab.runs.status import RUNNING, status_of
from cliplab.settings.config import ConfigError, did_you_mean
from cliplab.text import listed

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
FACTS = ("status", "experiment", "task", "seed", "age", "duration", "disk", "tags", "note", "run", "metric")


@dataclass(frozen=True)
class RunRow:
    """One run, from its manifest. What costs more is read when it is asked for."""

    place: str
    facts: Mapping[str, Any] = field(repr=False)

    @cached_property
    def folder(self) -> Path:
        return Path(self.place)

    @cached_property
    def status(self) -> str:
        return status_of(self.facts)

    @cached_property
    def typed(self) -> dict[str, str]:
        words = self.facts.get("overrides")
        return typed_values(words if isinstance(words, list) else read_typed(self.folder))

    @property
    def experiment(self) -> str:
        return str(self.facts.get("run_name") or self.typed.get("experiment") or "")

    @property
    def tags(self) -> list[str]:
        return [str(tag) for tag in self.facts.get("tags") or ()]

    @property
    def note(self) -> str:
        return str(self.facts.get("note") or "")

    @cached_property
    def figures(self) -> Mapping[str, float]:
        return {key: value for key, value in (self.facts.get("final") or {}).items() if isinstance(value, int | float)}

    @cached_property
    def metric(self) -> tuple[str, float] | None:
        """The headline of the first set that was evaluated, or else what the run is compared by."""
        known = [name for name in self.figures if name.rpartition("/")[2] in headlines()]
        optimized = self.facts.get("optimized_metric") or {}
        name = known[0] if known else optimized.get("name")
        value = self.figures.get(str(name), optimized.get("value"))
        return (str(name), float(value)) if isinstance(value, int | float) else None

    @cached_property
    def age(self) -> float:
        """Seconds since it began."""
        began = self.facts.get("started")
        try:
            return time.time() - datetime.fromisoformat(str(began)).timestamp()
        except ValueError:
            return time.time() - self.folder.stat().st_mtime

    @cached_property
    def duration(self) -> float | None:
        """Seconds from its first start to its end, those between a stop and its going on included; to now while it runs."""
        if self.status == RUNNING:
            return self.age
        try:
            ends = [datetime.fromisoformat(str(self.facts.get(key))) for key in ("started", "finished")]
        except ValueError:
            return None
        return (ends[1] - ends[0]).total_seconds()

    @cached_property
    def disk(self) -> int:
        """Bytes of its files."""
        return bytes_below(self.folder)

    def value(self, name: str) -> Any:
        """A fact; what was typed for a key, or a figure, by its whole name; the same by the end of it; else None. What was
        typed comes first: ``lr`` is optimizer.lr before it is train/lr, the rate of the last step."""
        if name in FACTS:
            return {
                "seed": lambda: self.facts.get("seed"),
                "run": lambda: self.place,
                "task": lambda: self.facts.get("task"),
                "metric": lambda: self.metric and self.metric[1],
            }.get(name, lambda: getattr(self, name))()
        places: tuple[Mapping[str, Any], ...] = (self.typed, self.figures)
        for known in places:
            if name in known:
                return known[name]
        return next((known[key] for known in places for key in known if ends_with(key, name)), None)

    @property
    def label(self) -> str:
        """What was typed, in short."""
        shown = {k: v for k, v in self.typed.items() if k not in ("experiment", "name", "task", "tags", "note")}
        return label_of(shown, short_names(list(shown)))


@cache  # many runs share few names
def ends_with(key: str, name: str) -> bool:
    """Whether a name is made of the last parts of a key: ``lr`` of ``optimizer.lr``."""
    return key.replace("/", ".").endswith("." + name.replace("/", "."))


def bytes_below(folder: Path) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += bytes_below(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:  # it was removed meanwhile
        pass
    return total


def all_runs(folder: Path) -> list[RunRow]:
    """The runs at or below a folder, by the index that lies in it."""
    index = Index(folder / INDEX)
    rows = list(find_runs(str(folder), index))
    index.keep()
    return rows


def find_runs(folder: str, index: Index | None = None, deepest: int = DEEPEST) -> Iterator[RunRow]:
    """The runs at or below a folder, each read once; a run holds no other."""
    manifest = f"{folder}/{MANIFEST}"
    try:
        at = os.stat(manifest)
    except OSError:
        yield from _runs_inside(folder, index, deepest)
        return
    yield RunRow(folder, index.facts(folder, at) if index else read_facts(manifest))


def _runs_inside(folder: str, index: Index | None, deepest: int) -> Iterator[RunRow]:
    """Those below a folder without a manifest; itself, where it has another mark of a run."""
    try:
        with os.scandir(folder) as entries:
            names = {entry.name: entry.is_dir() for entry in entries}
    except OSError:
        return
    if any(mark in names for mark in MARKS):
        yield RunRow(folder, {})
    elif deepest:
        for name, is_folder in names.items():
            if is_folder and not name.startswith("."):
                yield from find_runs(f"{folder}/{name}", index, deepest - 1)


CONDITION = re.compile(r"\s*([\w./@-]+?)\s*(>=|<=|!=|==|=|>|<|~)\s*(.*?)\s*")


def amount(text: str) -> float | None:
    """A number, which may have a unit of time or size: ``0.7``, ``2d``, ``1.5GB``, ``70%``."""
    found = re.fullmatch(r"([-+.\de]+)\s*([a-zA-Z]+|%)?", text)
    value = number(found[1]) if found else None
    if found is None or value is None:
        return None
    unit = (found[2] or "").lower()
    factor = 0.01 if unit == "%" else UNITS.get(unit) if unit else 1
    return None if factor is None else value * factor


def condition(text: str) -> Callable[[RunRow], bool]:
    """One condition of ``where=``, such as ``acc1>0.7``, ``status=failed``, ``age<2d``, ``tags=paper``, ``note~colour``."""
    found = CONDITION.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"where: {text!r} is no condition; write it as acc1>0.7, status=failed, age<2d or note~colour"
        )
    name, sign, wanted = found.groups()
    wanted = wanted.strip("'\"")
    limit = amount(wanted)
    if not wanted:
        raise ConfigError(f"where: {text!r} has no value; write one after {sign}, as acc1>0.7 or status=failed")
    if re.search(r"\s(or|not)\s", wanted):
        raise ConfigError(
            f"where: {text!r}: conditions are joined by and; list the runs of each in a command of its own"
        )
    if sign in (">", "<", ">=", "<=") and limit is None:
        raise ConfigError(f"where: {text!r} compares with {wanted!r}, which is no number; sizes are 1GB, ages 2d")

    def holds(row: RunRow) -> bool:
        value = row.value(name)
        if isinstance(value, list):
            return (wanted in value) != (sign == "!=")
        if sign == "~":
            return value is not None and wanted.lower() in str(value).lower()
        have = number(str(value)) if value is not None else None
        if sign in ("=", "==", "!="):
            same = have == limit if have is not None and limit is not None else str(value) == wanted
            return same != (sign == "!=")
        if have is None or limit is None:
            return False
        return {">": have > limit, "<": have < limit, ">=": have >= limit, "<=": have <= limit}[sign]

    return holds


def names_in(where: str) -> list[str]:
    """What the conditions are about."""
    return [found[1] for part in _parts(where) if (found := CONDITION.fullmatch(part))]


def _parts(where: str) -> list[str]:
    return [part for part in re.split(r"(?:^|\s+)and(?:\s+|$)|\s*[,;&]+\s*", where) if part.strip()]


def _check_known(option: str, name: str, rows: Sequence[RunRow]) -> None:
    """Raises ConfigError for a name that no run has a value for."""
    if name not in FACTS and rows and all(row.value(name) is None for row in rows):
        figures = dict.fromkeys(key.rpartition("/")[2] for row in rows for key in row.figures)
        typed = dict.fromkeys(key for row in rows for key in row.typed)
        there = f"{', '.join(FACTS)}; figures: {listed([*figures])}; typed: {listed([*typed])}"
        short = [key.replace("/", ".").rpartition(".")[2] for key in typed]
        meant = did_you_mean(name, [*FACTS, *figures, *short, *typed])
        raise ConfigError(f"{option}: no run has {name!r}{f'{meant} There are' if meant else '; there are'} {there}")


def selected(rows: Sequence[RunRow], where: str | None) -> list[RunRow]:
    """The runs for which every condition holds; conditions are joined by ``and``. Raises ConfigError for a condition that
    cannot be read, or that is about what no run has."""
    if not where:
        return list(rows)
    for name in names_in(where):
        _check_known("where", name, rows)
    conditions = [condition(part) for part in _parts(where)]
    return [row for row in rows if all(holds(row) for holds in conditions)]


def ordered(rows: Sequence[RunRow], sort: str | None) -> list[RunRow]:
    """By one value, ``-`` before it for the largest first; the newest first without any. What has no value comes last."""
    if not sort:
        return sorted(rows, key=lambda row: row.age)
    name = sort.removeprefix("-")
    _check_known("sort", name, rows)
    there = [(row, row.value(name)) for row in rows]
    with_value = [pair for pair in there if pair[1] not in (None, "", [])]

    def key(pair: tuple[RunRow, Any]) -> tuple[int, float, str]:
        have = number(str(pair[1]))
        return (0, have, "") if have is not None else (1, 0.0, str(pair[1]))

    first = [row for row, _ in sorted(with_value, key=key, reverse=sort.startswith("-"))]
    return [*first, *(row for row, value in there if value in (None, "", []))]
