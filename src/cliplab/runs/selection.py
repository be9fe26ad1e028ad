"""Several runs named at once: by a pattern, by a folder above them, or by a list of these; and the one to resume."""

import glob
from pathlib import Path
from typing import Any

from cliplab.runs.listing import find_runs
from cliplab.runs.outcome import MANIFEST, holds_run, read_manifest
from cliplab.runs.sweep_file import SWEEP
from cliplab.settings.config import ConfigError
from cliplab.settings.model_source import existing, folders_with, named_run, only_one

PATTERN = "*?["
WRITTEN = (MANIFEST, "overrides.yaml")  # one of them lies in each folder that a command has written


def is_pattern(value: Any) -> bool:
    return isinstance(value, str) and any(sign in value for sign in PATTERN) and not Path(value).expanduser().exists()


def runs_below(folder: Path) -> list[Path]:
    """The folder itself when it holds a run, else the runs below it, by name."""

    def order(run: Path) -> list[str]:
        return [part.zfill(6) if part.isdigit() else part for part in run.relative_to(folder).parts]

    return sorted((row.folder for row in find_runs(str(folder).rstrip("/"))), key=order)


def selected_runs(key: str, value: Any) -> list[Path]:
    """The run folders that a value names, each once. Raises ConfigError for a name or pattern that finds none."""
    found: dict[Path, None] = {}
    for one in value if isinstance(value, list) else [value]:
        if is_pattern(one):
            runs = [run for path in _matches(one) for run in runs_below(path)]
            if not runs:
                fix = f'write a pattern of run folders in quotes, as "{key}=logs/train/emoji/*"'
                raise ConfigError(f"{key}: no run lies at {one}; {fix}")
        else:
            path = Path(str(one)).expanduser()
            several = path.is_dir() and not holds_run(path) and not (path / "comparison.json").is_file()
            runs = (runs_below(path) if several else []) or [named_run(key, one)]
        found |= dict.fromkeys(runs)
    return list(found)


def run_to_resume(key: str, value: Any) -> Path:
    """The folder of the training run or sweep that ``value`` names in order to go on with it: that folder itself, something
    inside it, or a folder that holds exactly one. Raises ConfigError when there is none."""
    path = existing(key, value).resolve()
    for folder in (path, *list(path.parents)[:2]):
        if (folder / "config.yaml").is_file():
            return folder
        if (folder / SWEEP).is_file() and (folder == path or path.is_file()):
            return folder
    if path.is_file():
        raise ConfigError(f"{key}: {path} does not belong to a run; name the folder of the run")
    sweeps = folders_with(path, SWEEP)
    alone = [run for run in folders_with(path, "config.yaml") if run.parent not in sweeps and _trains(run)]
    return only_one(key, path, [*sweeps, *alone], f"no training run; {key}=logs/train/<experiment>/<run>")


def _trains(run: Path) -> bool:
    return read_manifest(run).get("task", "train") == "train"


def _matches(pattern: str) -> list[Path]:
    found = sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))
    return [path for path in map(Path, found) if path.is_dir()]


def runs_to_remove(key: str, value: Any, kept: Path) -> list[Path]:
    """The folders of runs and of whole sweeps that a value names, each once. Raises ConfigError for a value that names none,
    and for a folder with more than runs in it: the one of a repository, the working directory, or ``kept``."""
    found: dict[Path, None] = {}
    for one in value if isinstance(value, list) else [value]:
        if not str(one).strip():
            raise ConfigError(f"{key}: its value is missing; {key}=<run folder>")
        path = Path(str(one)).expanduser()
        named = _matches(one) if is_pattern(one) else [existing(key, one)]
        folders = [run for place in named for run in ([place] if _is_sweep(place) else runs_below(place))]
        written = [
            folder for folder in folders if _is_sweep(folder) or any((folder / name).is_file() for name in WRITTEN)
        ]
        if not written:
            fix = f'name a run folder, or a pattern in quotes, as "{key}=logs/train/emoji/*"'
            raise ConfigError(f"{key}: {path} holds no run; {fix}")
        found |= dict.fromkeys(written)
    for folder in found:
        inside = [place for place in (Path.cwd(), kept) if place.resolve().is_relative_to(folder.resolve())]
        if inside or (folder / ".git").exists():
            raise ConfigError(f"{key}: {folder} holds {inside[0] if inside else 'a repository'}, which is not removed")
    return list(found)


def _is_sweep(folder: Path) -> bool:
    """Whether a folder has a mark of a sweep, finished or not, and is no run itself."""
    marks = (SWEEP, "summary.csv", "multirun.yaml")
    return folder.is_dir() and not holds_run(folder) and any((folder / name).is_file() for name in marks)


def is_multirun(folder: Path) -> bool:
    """Whether a folder is that of a sweep: it is no run itself, and several lie right in it."""
    if not folder.is_dir() or holds_run(folder):
        return False
    return _is_sweep(folder) or sum(map(holds_run, folder.iterdir())) > 1


def short_folders(folders: list[Path]) -> list[str]:
    """What tells the folders apart: their last part, with those before it where that is not enough."""
    for parts in range(1, 6):
        names = ["/".join(folder.resolve().parts[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
