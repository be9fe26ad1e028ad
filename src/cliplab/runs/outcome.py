"""How a job ended, as its folder records it. Other processes read it from there."""

import json
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cliplab.files import whole_file

MANIFEST, TRACEBACK = "manifest.json", "traceback.txt"
START_FILES = {MANIFEST, "config.yaml", "composed.yaml", "overrides.yaml", TRACEBACK}  # of a run that did no work
DEEPEST = 4  # levels below a folder at which runs are looked for
MARKS = (MANIFEST, "config.yaml", "composed.yaml", "checkpoints")  # a folder with one of these holds a run


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run; empty when there is none, or when it cannot be read."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def with_further(earlier: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """What was typed for a run, with what is typed anew when it goes on."""
    return [*earlier, *(o for o in overrides if o not in earlier)]


def holds_run(folder: Path) -> bool:
    """Whether a run has begun in the folder."""
    return any((folder / name).exists() for name in MARKS)


def record_end(folder: Path, status: str, overrides: Sequence[str], **facts: Any) -> None:
    """Write the status ``finished``, ``failed`` or ``interrupted`` into the folder, and overrides that are missing there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "overrides.yaml").is_file():
        with whole_file(folder / "overrides.yaml") as file:
            yaml.safe_dump(list(overrides), file, allow_unicode=True)
    with whole_file(folder / MANIFEST) as file:
        json.dump({**read_manifest(folder), "status": status, **facts}, file, indent=1, ensure_ascii=False)


def remove_failed_start(folder: Path) -> None:
    """Remove a run that failed before it did any work, so that the corrected command may use the same folder."""
    if read_manifest(folder).get("status") == "failed" and all(path.name in START_FILES for path in folder.iterdir()):
        for path in list(folder.iterdir()):
            path.unlink()


def remove_start_files(folder: Path) -> None:
    """Remove the files that a job writes when it starts, if the folder holds nothing else: the job has done no work."""
    start_files = START_FILES - {TRACEBACK}
    if folder.is_dir() and all(path.name in start_files for path in folder.iterdir()):
        for name in start_files:
            (folder / name).unlink(missing_ok=True)


def contents(folder: Path, names: Iterable[str]) -> dict[str, bytes | None]:
    """What stands in files of a folder; None for those that are not there."""
    return {name: (folder / name).read_bytes() if (folder / name).is_file() else None for name in names}


class AsItWas:
    """A run before it goes on. A start that fails before a step leaves it so: finished, with its own settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start, self.work = contents(folder, START_FILES - {TRACEBACK}), self._work()

    def _work(self) -> Any:
        checkpoints = sorted((self.folder / "checkpoints").glob("*"))
        return contents(self.folder, ["metrics.csv"]), [(path.name, path.stat().st_mtime_ns) for path in checkpoints]

    def restore(self) -> None:
        """Write its config and manifest back, unless a step was logged or a checkpoint written since."""
        if self._work() != self.work:
            return
        for name, content in self.start.items():
            if content is not None:
                with whole_file(self.folder / name, "wb") as file:
                    file.write(content)


def record_traceback(folder: Path, error: BaseException) -> Path:
    """Append the traceback to ``traceback.txt`` in the folder. Returns the path of that file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TRACEBACK
    with path.open("a", encoding="utf8", errors="backslashreplace") as file:
        file.write("".join(traceback.format_exception(error)) + "\n")
    return path


def job_folders(sweep: Path) -> list[Path]:
    """The folders of the jobs of a multirun, in the order of the jobs."""
    found = [p for p in sweep.iterdir() if p.is_dir() and not p.name.startswith(".")] if sweep.is_dir() else []
    return sorted(found, key=lambda p: p.name.zfill(6))


def unfinished_jobs(sweep: Path) -> list[Path]:
    """The folders of the jobs of a multirun that did not finish."""
    return [job for job in job_folders(sweep) if read_manifest(job).get("status") != "finished"]
