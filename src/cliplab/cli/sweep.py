"""A multirun: check its folder before it starts, and summarise its jobs when it ends."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from cliplab.cli.grammar import one_line
from cliplab.runs.outcome import holds_run, job_folders, unfinished_jobs


class NoteSweep(Callback):
    """Records the folder of a multirun, which Hydra passes here. ``folders`` is read when the multirun has ended."""

    folders: list[Path] = []

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Exit when the folder holds the jobs of another multirun."""
        folder = Path(config.hydra.sweep.dir).resolve()
        if any(holds_run(job) for job in job_folders(folder)):
            sys.exit(f"error: hydra.sweep.dir: {folder} holds the runs of another multirun; name a new folder")
        self.folders.append(folder)


def sweep_status(error: BaseException | None) -> int:
    """Write the leaderboard of the multirun that has ended, from the folders of its jobs. Return the exit status.

    ``error`` is what ended the multirun early. It is raised again when no job has begun.
    """
    folder = NoteSweep.folders.pop()
    if not job_folders(folder):
        if folder.is_dir():
            (folder / "multirun.yaml").unlink(missing_ok=True)
            remove_empty(folder)
        if error is not None:
            raise error
        return 0
    unfinished = unfinished_jobs(folder)
    if isinstance(error, KeyboardInterrupt):
        status = 130
    elif error is not None:
        how = "without a result" if isinstance(error, ValueError) else f"early: {type(error).__name__}"
        print(f"error: the search ended {how}: {one_line(error)}", file=sys.stderr)
        status = 1
    else:
        status = 1 if unfinished else 0
    from cliplab.runs.sweep import summarise

    page = summarise(folder)
    if page is not None:
        print(page)
    return status


def remove_empty(folder: Path) -> None:
    """Remove an empty folder, and the folders above it in ``logs`` that become empty."""
    for place in (folder, *folder.parents):
        inside = "logs" in [parent.name for parent in place.parents]
        if place != folder and not inside and place.name != "logs":
            return
        try:
            place.rmdir()
        except OSError:
            return
