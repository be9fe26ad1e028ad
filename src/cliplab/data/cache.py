"""The folder for files that are made from data and can be made again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from platformdirs import user_cache_dir

from cliplab.files import whole_file


def cache_root() -> Path:
    """``$CLIPLAB_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("CLIPLAB_CACHE") or user_cache_dir("cliplab"))


@contextmanager
def cached_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file of the cache folder. Several processes may write it at once: each writes a file of its own, and moves it
    into place when it is whole."""
    of_this_process = path.with_name(f"{path.stem}.{os.getpid()}")
    with whole_file(of_this_process, "wb", sync=False) as file:
        yield file
    os.replace(of_this_process, path)
