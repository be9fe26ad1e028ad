"""The images that a command embeds or searches: a folder, a file, Parquet, or any Hugging Face data set."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from cliplab.data.columns import IMAGE_COLUMNS, first_present
from cliplab.data.hub import UnreachableData
from cliplab.data.layouts import reader_of, suffixes
from cliplab.data.library import cache_key
from cliplab.data.local import folder_of
from cliplab.data.opening import open_dataset
from cliplab.embedding.facts import is_table
from cliplab.embedding.model import SUFFIXES, list_images

SHARDS = (".parquet", ".arrow", ".tar")
SAVED = ("dataset_info.json", "dataset_dict.json")


@dataclass(frozen=True)
class Collection(Sequence[Any]):
    """Encoded images, read when they are needed. ``ids[i]`` is the id of row ``i``; it is a path when ``files`` is true.
    ``fingerprint`` changes with the content."""

    ids: Sequence[str]
    read: Callable[[int], Any]
    fingerprint: str
    files: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            return [self.read(i) for i in range(*rows.indices(len(self)))]
        return self.read(int(rows))


def _of_files(paths: Sequence[Path], root: Path | None) -> Collection:
    ids = [str(p.relative_to(root)) if root else str(p) for p in paths]
    facts = "\n".join(f"{p} {p.stat().st_size if p.is_file() else 'missing'}" for p in paths)
    return Collection(ids, lambda i: paths[i], hashlib.sha256(facts.encode()).hexdigest(), files=True)


def _is_dataset(folder: Path) -> bool:
    """Whether a folder holds rows. A CSV beside images does not make it a data set, nor does a table of embeddings."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    if any((folder / name).is_file() for name in SAVED) or any(p.suffix in SHARDS and not is_table(p) for p in files):
        return True
    return any(reader_of(p.name) for p in files) and not any(p.suffix.lower() in SUFFIXES for p in files)


def _of_rows(images: str, split: str, id_column: str | None) -> Collection:
    root = folder_of(images)
    try:
        rows = open_dataset(path=images, split=split)
    except UnreachableData as error:
        nowhere = "" if root else f"there is no file or folder {images} here, and "
        raise ValueError(f"images: {nowhere}{error}") from error
    column = first_present(rows.column_names, IMAGE_COLUMNS, "image", images)
    if len(rows) == 0:
        raise ValueError(f"images: {images} has no rows in split {split!r}")
    if id_column:
        first_present(rows.column_names, [id_column], "id", images)
    ids = [str(x) for x in rows[id_column]] if id_column else [str(i) for i in range(len(rows))]
    twice = next((name for name, n in Counter(ids).items() if n > 1), None)
    if twice is not None:
        raise ValueError(f"task.id_column: {id_column} has {twice!r} more than once; name a column of distinct ids")
    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    rows = rows.select_columns([column])

    def read(i: int) -> Any:
        value = rows[i][column]
        return root / value if root and isinstance(value, str) else value  # paths are relative to the list's folder

    return Collection(ids, read, cache_key(rows))


def open_collection(images: Any, *, split: str = "train", id_column: str | None = None) -> Collection:
    """Open a collection: a folder of images, an image, a list of images, a Parquet file, or a data set on disk or the hub.

    The ids of a data set's rows come from ``id_column``, else they are numbers. Raises ValueError when the place does not
    exist, is empty, or has no such column.
    """
    if isinstance(images, list | tuple):
        return _of_files([Path(str(p)).expanduser() for p in images], None)
    path = Path(str(images)).expanduser()
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return _of_files([path], None)
    if path.is_dir() and not _is_dataset(path):
        return _of_files(list_images(path), path)
    if not path.exists() and (path.is_absolute() or str(images).startswith((".", "~")) or str(images).count("/") > 1):
        raise ValueError(f"images: there is no {path}; name a folder, a file or a data set")
    if path.is_file() and reader_of(path.name) is None:
        raise ValueError(f"images: {path} is neither a picture nor one of {', '.join(suffixes())}")
    return _of_rows(str(images), split, id_column)
