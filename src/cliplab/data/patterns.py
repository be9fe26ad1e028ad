"""Patterns that name several files: ``shard-{00000..00099}.tar``, ``{train,val}/*.tar``, ``a.tar::b.tar``."""

import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")
_ADDRESS = re.compile(r"(?!hf:)[a-z0-9]+://")
_SHOWN = 3  # files that an error names


def _range(first: str, last: str, step: str | None) -> list[str]:
    """The numbers of a range, as in bash: leading zeros of the first or the last number set the width."""
    start, end, by = int(first), int(last), abs(int(step or 1)) or 1
    padded = any(len(text.lstrip("-")) > 1 and text.lstrip("-").startswith("0") for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    numbers = range(start, end + 1, by) if start <= end else range(start, end - 1, -by)
    return [f"{number:0{width}d}" for number in numbers]


def _closing(text: str, start: int) -> int:
    """The position of the brace that closes the one at ``start``; -1 when there is none."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return place
    return -1


def _choices(inner: str) -> list[str] | None:
    """The choices between two braces. None when it is neither a range nor a list."""
    found = _RANGE.fullmatch(inner)
    if found:
        return _range(*found.groups())
    depth, parts = 0, [""]
    for sign in inner:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return [one for part in parts for one in expand_braces(part)] if len(parts) > 1 else None


def expand_braces(text: str) -> list[str]:
    """Expand ranges and lists in braces, in order, as bash does."""
    start = text.find("{")
    while start >= 0:
        end = _closing(text, start)
        choices = _choices(text[start + 1 : end]) if end > 0 else None
        if choices is not None:
            endings = expand_braces(text[end + 1 :])
            return [text[:start] + choice + ending for choice in choices for ending in endings]
        start = text.find("{", start + 1)
    return [text]


def is_pattern(path: str) -> bool:
    """Whether a text is a pattern for ``matching_files``, not the name of a file, a folder or a data set on the hub."""
    if path.startswith("pipe:") or _ADDRESS.match(path) or "::" in path:
        return True
    return len(expand_braces(path)) > 1 or bool(set("*?[") & set(path))


def matching_files(pattern: str, folder: Path | None = None) -> list[str]:
    """The files that a pattern matches, sorted within each part between ``::``. It is relative to ``folder``, or to the
    current folder; a folder means all files in it. Raises ValueError when a part matches no file, when files of a range
    are missing, and for commands and addresses."""
    if pattern.startswith("pipe:"):
        raise ValueError(
            f"{pattern[:60]}: commands are not run; fetch the files, or mount their storage, and name them"
        )
    if _ADDRESS.match(pattern):
        raise ValueError(f"{pattern[:60]}: files are not read from addresses; fetch them, or mount their storage")
    found: list[str] = []
    for part in filter(None, pattern.split("::")):
        names = expand_braces(part)
        by_name = [_named(os.path.join(folder or "", os.path.expanduser(name)), folder) for name in names]
        missing = [name for name, files in zip(names, by_name, strict=True) if not files]
        if len(missing) == len(names):
            raise ValueError(f"no file matches {part!r}")
        if missing and not any(map(glob.has_magic, names)):
            raise ValueError(
                f"{len(missing)} of the {len(names)} files of {part!r} are missing, such as {', '.join(missing[:_SHOWN])}; "
                "a pattern with * takes the files that exist"
            )
        found += sorted(itertools.chain.from_iterable(by_name))
    return list(dict.fromkeys(found))


def _named(name: str, folder: Path | None) -> list[str]:
    """The file of this name, or the files in the folder of this name, else the files that match it."""
    if os.path.isfile(name):
        return [name]
    if os.path.isdir(name):
        return [str(file) for file in Path(name).rglob("*") if file.is_file()]
    if folder is not None:  # the folder's name may contain pattern characters
        name = os.path.join(glob.escape(str(folder)), os.path.relpath(name, folder))
    return [file for file in glob.glob(name, recursive=True) if os.path.isfile(file)]


def common_folder(files: Sequence[str]) -> Path:
    """The folder that contains all of the files."""
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]))
