"""The folder for files that are made from data and can be made again."""

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_root() -> Path:
    """``$CLIPLAB_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("CLIPLAB_CACHE") or user_cache_dir("cliplab"))
