"""Finds the files of a split in a local folder, and computes their fingerprint."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cliplab.data.layout import Reader
from cliplab.data.layouts import reader_of
from cliplab.data.patterns import common_folder, is_pattern, matching_files
from cliplab.data.splits import SPLIT_NAMES, names_of_split
from cliplab.data.tables.json_records import holds_pairs

ABOUT_PICTURES = ("metadata.csv", "metadata.jsonl")  # tables of an image folder, which the datasets library reads
NO_ROWS = "corresponds to no data"  # part of the datasets library's message for an empty split
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
END = 4096  # bytes at each end of a file that are hashed into its fingerprint
ENDS_HASHED = (".tar", ".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".json", ".gz", ".tgz", ".txt")

# Names or patterns of files, for all splits or by split.
DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None


def local_path(path: str | None) -> Path | None:
    """The file or folder, or the folder of the files that a pattern matches. None when there is none, as for a hub id.
    Raises ValueError when a pattern matches no file, or when files of a range are missing."""
    found = Path(path).expanduser() if path else None
    if found is not None and found.exists():
        return found
    return common_folder(matching_files(path)) if path and is_pattern(path) else None


def folder_of(path: str | None) -> Path | None:
    """The folder that relative paths in a local source begin at. None for a hub id."""
    found = local_path(path)
    return found.parent if found is not None and found.is_file() else found


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def files_of_split(files: Sequence[Path], root: Path, split: str) -> list[Path]:
    """The files named after the split, else those named after none. Raises ValueError when all are of other splits."""
    inner = {file: str(file.relative_to(root)) for file in files}
    names = {*names_of_split(split)}
    found = [f for f in files if (names & _words(inner[f]) if split in SPLIT_NAMES else split in inner[f])]
    others = SPLIT_NAMES - names
    found = found or [file for file in files if not others & _words(inner[file])]
    if not found:
        present = sorted(others & set().union(*(_words(name) for name in inner.values())))
        raise ValueError(f"its files are of other splits: {', '.join(present)}; name one, or the files: data_files=…")
    return found


def check_split(path: Path, split: str) -> None:
    """Raises ValueError for a split that no local file is named after, so that its rows would be those of every split.

    The usual names (train, validation, test and their synonyms) are allowed: files that name no split are of any.
    """
    saved = (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()
    if saved or split.lower() in SPLIT_NAMES:
        return
    files = choose_files(path, split, None)[1]
    root = path if path.is_dir() else path.parent
    if not any(split.lower() in str(Path(file).relative_to(root)).lower() for file in files):
        named = ", ".join(name_within(file, path) for file in files[:3]) + (", …" if len(files) > 3 else "")
        raise ValueError(
            f"data.train.split: no file is named after split {split!r} ({named}); leave split= out for all of them, name "
            f"files, data.train.data_files=…, or choose rows by a column, "
            f'"data.train.filters.column_equals={{split: {split}}}"'
        )


def _named_files(path: Path, split: str, data_files: DataFiles) -> list[Path]:
    """The files of a local folder that ``data_files`` chooses for a split. Raises ValueError when a name matches none."""
    if isinstance(data_files, Mapping):
        if split not in data_files:
            raise ValueError(f"data_files are given for {', '.join(data_files)}; name split {split} there, or split=…")
        data_files = data_files[split]
    files: set[str] = set()
    for name in [data_files] if isinstance(data_files, str) else data_files or ():
        try:
            files |= set(matching_files(name, path))
        except ValueError as error:
            raise ValueError(f"data_files: {error}") from error
    if not files:
        raise ValueError("data_files: no file is named; null means all")
    return sorted(map(Path, files))


def _is_about_others(file: Path) -> bool:
    """Whether a table holds metadata of an image or tar beside it, or of the folder, and no pairs of its own."""
    if file.with_suffix("").is_dir() and file.with_name(f"{file.stem}_stats.json").is_file():
        return True  # img2dataset writes a table and counts beside each folder of images
    if file.suffix.lower() != ".json":
        return file.name in ABOUT_PICTURES or file.name.startswith(".")
    return any(file.with_suffix(suffix).is_file() for suffix in PICTURES) or not holds_pairs(file)


def choose_files(path: Path, split: str, data_files: DataFiles) -> tuple[type[Reader] | None, list[str]]:
    """The reader of a local folder or file, and the files it reads for a split.

    The reader is None when the files are images, or all files of a folder of images. Raises ValueError when no file is of
    the split, or when a name in ``data_files`` matches none.
    """
    if data_files is not None:
        files = _named_files(path, split, data_files)
    else:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    by_reader: dict[type[Reader], list[Path]] = {}
    for file in files:
        reader = reader_of(file.name)
        skipped = data_files is None and path.is_dir() and _is_about_others(file)
        if reader is not None and not skipped:
            by_reader.setdefault(reader, []).append(file)
    if not by_reader:
        return None, [str(file) for file in files]
    chosen = min(by_reader, key=lambda reader: reader.precedence)
    found = by_reader[chosen]
    if data_files is None and path.is_dir():
        found = files_of_split(found, path, split)
    return chosen, [str(file) for file in found]


def has_split_folders(path: Path) -> bool:
    return path.is_dir() and any(p.is_dir() and p.name.lower() in SPLIT_NAMES for p in path.iterdir())


def name_within(file: str, root: Path) -> str:
    """The name of a file for messages: its path within the folder that the user gave."""
    return os.path.relpath(file, root) if root.is_dir() else os.path.basename(file)


def refuse_options(options: Mapping[str, object], layout: str) -> None:
    """Raises ValueError when options are given for a layout that has none."""
    if options:
        raise ValueError(f"data.train.reader.{min(options)}: the reader of {layout} has no options")


def refuse_empty(files: Sequence[str], root: Path) -> None:
    """Raises ValueError naming the empty files."""
    empty = [name_within(file, root) for file in files if not os.path.getsize(file)]
    if empty:
        raise ValueError(f"these files are empty: {', '.join(empty[:10])}; fetch them again, or remove them")


def _file_facts(file: Path, root: Path) -> str:
    """Name, size and, except for images, a hash of both ends. A Parquet file has its metadata at the end."""
    size, ends = file.stat().st_size, b""
    if file.suffix in ENDS_HASHED:
        with file.open("rb") as opened:
            ends = opened.read(END)
            opened.seek(max(0, size - END))
            ends += opened.read()
    return f"{os.path.relpath(file, root)} {size} {hashlib.sha256(ends).hexdigest()}"


def fingerprint_of_files(files: Sequence[str], root: Path) -> str:
    """Changes with names, sizes and ends of files. The place of their folder does not matter."""
    facts = [_file_facts(Path(file), root) for file in files]
    return hashlib.sha256("\n".join(["", *facts]).encode()).hexdigest()
