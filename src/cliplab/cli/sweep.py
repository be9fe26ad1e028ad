"""A multirun: check its folder before it starts, and summarise its jobs when it ends."""

import re
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback

from cliplab.cli.arguments import Arguments
from cliplab.cli.grammar import parses, part_of_swept
from cliplab.program import command_line, hydra_quoted, key_of
from cliplab.runs.outcome import job_folders, read_manifest
from cliplab.settings.config import ConfigError
from cliplab.text import one_line


class NoteSweep(Callback):
    """Hydra tells it where a multirun writes and whether a failed job is an error; ``begun`` is read when it is over."""

    begun: list[tuple[Path, bool]] = []

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        self.begun.append((Path(config.hydra.sweep.dir).resolve(), bool(config.sweep.fail_on_error)))


def left_to_jobs(error: BaseException | None, arguments: Arguments) -> Arguments | None:
    """The arguments without a value that a multirun's own config has no key for, since that key comes with a choice that
    only jobs make: ``optimizer=sgd,muon optimizer.momentum=0.9``. It is written as a choice of one value, which Hydra leaves
    to the jobs. None when the error is another one.
    """
    found = re.search(r"Could not override '([\w.]+)'", str(error)) if isinstance(error, HydraException) else None
    words = [word for word in arguments.overrides if found and key_of(word) == found[1] and parses(word)]
    if found is None or not words or part_of_swept(found[1], arguments.overrides) is None:
        return None
    word = words[-1]
    if OverridesParser.create().parse_override(word).is_sweep_override():
        return None
    key, _, value = word.partition("=")
    others = [one for one in arguments.overrides if one not in words]
    return arguments.replaced([*others, f"{key}=choice({value})"])


def sweep_status(error: BaseException | None) -> int:
    """Write the leaderboard of the multirun that has ended, from the folders of its jobs. Return the exit status.

    It is 1 when not one job has a result, and with ``sweep.fail_on_error`` when any failed. ``error`` is what ended it
    early. Raises it when no job has begun, and an interrupt in any case.
    """
    folder, fail_on_error = NoteSweep.begun.pop()
    jobs = job_folders(folder)
    if error is not None and (not jobs or isinstance(error, HydraException | ConfigError)):
        raise error  # nothing was begun now
    if not jobs:
        return 0
    summarised = _summarise(folder)
    failed = [job for job in jobs if read_manifest(job).get("status") == "failed"]
    without_result = len(failed) == len(jobs)
    if without_result:
        print(
            f"error: the sweep has no result: all jobs failed; the first: {read_manifest(jobs[0]).get('error')}",
            file=sys.stderr,
        )
    if error is not None:
        if not isinstance(error, KeyboardInterrupt):
            print(f"error: the sweep ended early: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
        print(f"go on with: {command_line(f'resume={hydra_quoted(folder)}')}", file=sys.stderr)
    if isinstance(error, KeyboardInterrupt):
        raise error
    return 1 if error is not None or not summarised or without_result or (fail_on_error and failed) else 0


def _summarise(folder: Path) -> bool:
    """Print the leaderboard and write the page, and return whether that could be done: a signal that comes while a library
    is being imported leaves it unusable in this process."""
    from cliplab.runs.sweep import summarise

    try:
        page = summarise(folder)
    except Exception as error:
        again = command_line("task=report", f"run={hydra_quoted(folder)}")
        reason = f"{type(error).__name__}: {one_line(error)}"
        print(f"error: the sweep's summary could not be written: {reason}; make it with: {again}", file=sys.stderr)
        return False
    if page is not None:
        print(page)
    return True


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
