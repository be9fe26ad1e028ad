"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


@contextmanager
def whole_file(path: Path, mode: str = "w", *, sync: bool = True, **options: Any) -> Iterator[IO[Any]]:
    """Open ``path`` for writing so that it appears only when it is complete.

    The content goes to ``<name>.part`` beside it and is moved into place at the end. An error or a kill before that leaves
    the old file as it was. ``sync`` writes through to the disk first. Text is UTF-8. Raises what writing raises.

    >>> with whole_file(path) as file:
    ...     file.write("all of it")
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if "b" not in mode:
        options.setdefault("encoding", "utf8")
    part = path.with_name(path.name + ".part")
    try:
        with part.open(mode, **options) as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(path.parent)
