"""Several files named by one text: ``shard-{00000..00099}.tar``, ``{train,val}/*.tar``, ``a.tar::b.tar``."""

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
    """As bash counts: zeros before the first or the last number set the width."""
    start, end, by = int(first), int(last), abs(int(step or 1)) or 1
    padded = any(len(text.lstrip("-")) > 1 and text.lstrip("-").startswith("0") for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    numbers = range(start, end + 1, by) if start <= end else range(start, end - 1, -by)
    return [f"{number:0{width}d}" for number in numbers]


def _closing(text: str, start: int) -> int:
    """Where the brace that opens at ``start`` closes; -1 when it does not."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return place
    return -1


def _choices(inner: str) -> list[str] | None:
    """What stands between two braces, apart; None when it is neither a range nor a list."""
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
    """The names that ranges and lists in braces stand for, in order, as bash expands them."""
    start = text.find("{")
    while start >= 0:
        end = _closing(text, start)
        choices = _choices(text[start + 1 : end]) if end > 0 else None
        if choices is not None:
            return [text[:start] + choice + rest for choice in choices for rest in expand_braces(text[end + 1 :])]
        start = text.find("{", start + 1)
    return [text]


def is_pattern(path: str) -> bool:
    """Whether a text is for ``matching_files``: no name of a file or folder, nor of a data set on the hub."""
    if path.startswith("pipe:") or _ADDRESS.match(path) or "::" in path:
        return True
    return len(expand_braces(path)) > 1 or bool(set("*?[") & set(path))


def matching_files(pattern: str, folder: Path | None = None) -> list[str]:
    """Files, sorted within each part between ``::``, that a pattern names, relative to ``folder`` or to where the command
    is typed; a folder stands for all files in it. Raises ValueError when a part names none, or a range some that are not
    there, and for commands and addresses."""
    if pattern.startswith("pipe:"):
        raise ValueError(
            f"{pattern[:60]}: commands are not run; fetch the files, or mount where they lie, and name them"
        )
    if _ADDRESS.match(pattern):
        raise ValueError(f"{pattern[:60]}: files are not read from addresses; fetch them, or mount where they lie")
    found: list[str] = []
    for part in filter(None, pattern.split("::")):
        names = expand_braces(part)
        by_name = [_named(os.path.join(folder or "", os.path.expanduser(name)), folder) for name in names]
        missing = [name for name, files in zip(names, by_name, strict=True) if not files]
        if len(missing) == len(names):
            raise ValueError(f"no file there matches {part!r}")
        if missing and not any(map(glob.has_magic, names)):
            raise ValueError(
                f"no file there is {', '.join(missing[:_SHOWN])}; {len(missing)} of the {len(names)} of {part!r} are "
                "missing; a pattern with * takes those there are"
            )
        found += sorted(itertools.chain.from_iterable(by_name))
    return list(dict.fromkeys(found))


def _named(name: str, folder: Path | None) -> list[str]:
    """A file of that very name, the files of a folder, else those that it matches."""
    if os.path.isfile(name):
        return [name]
    if os.path.isdir(name):
        return [str(file) for file in Path(name).rglob("*") if file.is_file()]
    if folder is not None:  # its own name may hold signs of patterns
        name = os.path.join(glob.escape(str(folder)), os.path.relpath(name, folder))
    return [file for file in glob.glob(name, recursive=True) if os.path.isfile(file)]


def common_folder(files: Sequence[str]) -> Path:
    """The folder that all of the files lie in."""
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]))
