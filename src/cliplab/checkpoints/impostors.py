"""Files that have the name of weights or of a config and are something else."""

from pathlib import Path

LFS = b"version https://git-lfs"
PAGES = (b"<!doctype html", b"<html", b"<?xml")


def what_it_is(path: Path) -> str:
    """A phrase for a well-known stand-in: a Git LFS pointer, a web page, an empty file; "" for anything else."""
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
        return (
            "it is a web page, such as a log-in or an error page that was saved in the file's place; download it again"
        )
    return ""
