"""What a job ended with, told by its folder: other processes read it there."""

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cliplab.files import whole_file

MANIFEST, TRACEBACK = "manifest.json", "traceback.txt"
MARKS = (MANIFEST, "config.yaml", "composed.yaml", "checkpoints")  # any of them makes a folder a run's


def read_manifest(folder: Path) -> dict[str, Any]:
    """The facts of a run; empty when there are none or they cannot be read."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def holds_run(folder: Path) -> bool:
    """Whether a run was begun in the folder."""
    return any((folder / name).exists() for name in MARKS)


def note_end(folder: Path, status: str, overrides: Sequence[str], **facts: Any) -> None:
    """Write ``finished``, ``failed`` or ``interrupted`` into the folder, with what was typed when that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "overrides.yaml").is_file():
        with whole_file(folder / "overrides.yaml") as file:
            yaml.safe_dump(list(overrides), file, allow_unicode=True)
    with whole_file(folder / MANIFEST) as file:
        json.dump({**read_manifest(folder), "status": status, **facts}, file, indent=1, ensure_ascii=False)


def forget_begun(folder: Path) -> None:
    """Remove what a command wrote down of itself, from a folder that holds nothing else: it ended before any work."""
    begun = (MANIFEST, "config.yaml", "composed.yaml", "overrides.yaml")
    if folder.is_dir() and all(path.name in begun for path in folder.iterdir()):
        for name in begun:
            (folder / name).unlink(missing_ok=True)


def note_traceback(folder: Path, error: BaseException) -> Path:
    """Add the traceback to ``traceback.txt`` of the folder and return that file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TRACEBACK
    with path.open("a", encoding="utf8", errors="backslashreplace") as file:
        file.write("".join(traceback.format_exception(error)) + "\n")
    return path


def job_folders(sweep: Path) -> list[Path]:
    """The folders of the jobs of a multirun, in their order."""
    return sorted((p for p in sweep.iterdir() if p.is_dir()), key=lambda p: p.name.zfill(6)) if sweep.is_dir() else []


def unfinished_jobs(sweep: Path) -> list[Path]:
    """Jobs of a multirun that did not end well."""
    return [job for job in job_folders(sweep) if read_manifest(job).get("status") != "finished"]
