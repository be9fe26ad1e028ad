"""Write files as a whole or not at all, and recognise files that are not what their names say."""

import codecs
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

LFS = b"version https://git-lfs"
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times as fast, where libyaml was there
PAGES = (b"<!doctype html", b"<html", b"<?xml")


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, if the system supports this."""
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


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises OSError, ValueError or yaml.YAMLError."""
    return yaml.load(path.read_text(encoding="utf8"), YAML_LOADER)


@contextmanager
def whole_file(path: Path, mode: str = "w", *, sync: bool = True, **options: Any) -> Iterator[IO[Any]]:
    """Open ``path`` for writing so that it appears only when it is complete.

    The content is written to ``<name>.part`` in the same folder, which is renamed at the end. An error or a kill before
    that leaves the old file as it was. With ``sync``, the content is on the disk before the rename. Text is UTF-8. Raises
    what writing raises.

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


def lines_of(file: Path) -> list[str]:
    """The lines of a text file that are not empty, without the spaces round them. A byte order mark does not matter."""
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _marked(file: Path) -> bool:
    """Whether a JSON file begins with the byte order mark that some Windows programs write."""
    if file.suffix != ".json" or not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


@contextmanager
def without_marks(place: str) -> Iterator[str]:
    """The folder ``place`` for libraries that refuse a byte order mark in JSON: a copy without marks where a file has one,
    with links to all other files. Anything but a folder stays as it is."""
    folder = Path(place).expanduser()
    if not folder.is_dir() or not any(map(_marked, folder.iterdir())):
        yield place
        return
    with tempfile.TemporaryDirectory() as made:
        for file in folder.iterdir():
            if _marked(file):
                (Path(made) / file.name).write_bytes(file.read_bytes().removeprefix(codecs.BOM_UTF8))
            else:
                (Path(made) / file.name).symlink_to(file.resolve())
        yield made


def describe_stand_in(path: Path) -> str:
    """Say what a file is that often lies in the place of another: a Git LFS pointer, a web page, an empty file. "" for any
    other file."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return ""
    if not start:
        return "the file is empty"
    if start.startswith(LFS):
        return "it is a pointer of Git LFS to the file; run: git lfs pull, or download the file itself"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        return "it is a web page, such as a login page or an error page, that was saved as this file; download it again"
    return ""
