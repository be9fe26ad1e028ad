"""A path that can only be one of this machine, and no name on a hub, must be there and hold something."""

from pathlib import Path

from cliplab.settings.config import ConfigError

BEGINNINGS = ("/", "./", "../", "~")
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".tar", ".tgz", ".gz", ".zip", ".txt")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def is_local(name: str) -> bool:
    """A name on a hub is ``owner/name`` and ends in none of the suffixes of files."""
    if name.startswith(BEGINNINGS):
        return True
    return ":" not in name and (name.count("/") > 1 or Path(name).suffix.lower() in (*TABLES, *PICTURES))


def check_there(key: str, name: str) -> None:
    """Raises ConfigError."""
    path = Path(name).expanduser()
    if path.is_dir() and next(path.iterdir(), None) is None:
        raise ConfigError(f"{key}: {path} is an empty folder; give one with data in it")
    if is_local(name) and not path.exists():
        raise ConfigError(f"{key}: {path} is neither a folder nor a file; give one that is there, or a hub id")
