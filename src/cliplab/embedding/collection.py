"""What a command embeds or searches: a folder of pictures, a file, Parquet, or any Hugging Face data set."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from cliplab.data.captions import IMAGE_COLUMNS
from cliplab.data.hub import first_present, open_dataset
from cliplab.embedding.model import SUFFIXES, list_images

TABLES = (".parquet", ".arrow", ".tar", ".csv")
SAVED = ("dataset_info.json", "dataset_dict.json")


@dataclass(frozen=True)
class Collection(Sequence[Any]):
    """Encoded images, read when they are asked for; that of row ``i`` is called ``ids[i]``. ``fingerprint`` changes with
    the content."""

    ids: Sequence[str]
    read: Callable[[int], Any]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            return [self.read(i) for i in range(*rows.indices(len(self)))]
        return self.read(int(rows))


def _of_files(paths: Sequence[Path], root: Path | None) -> Collection:
    ids = [str(p.relative_to(root)) if root else str(p) for p in paths]
    facts = "\n".join(f"{p} {p.stat().st_size if p.is_file() else 'missing'}" for p in paths)
    return Collection(ids, lambda i: paths[i], hashlib.sha256(facts.encode()).hexdigest())


def _holds_table(folder: Path) -> bool:
    return any((folder / name).is_file() for name in SAVED) or any(p.suffix in TABLES for p in folder.rglob("*"))


def open_collection(images: Any, *, split: str = "train", id_column: str | None = None) -> Collection:
    """A collection from a folder of pictures, a picture, a list of pictures, a Parquet file, or a data set on disk or hub.

    A data set's rows are named by ``id_column``, else by their number. Raises ValueError when there is nothing of that
    name, nothing in it, or no such column.
    """
    if isinstance(images, list | tuple):
        return _of_files([Path(str(p)).expanduser() for p in images], None)
    path = Path(str(images)).expanduser()
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return _of_files([path], None)
    if path.is_dir() and not _holds_table(path):
        return _of_files(list_images(path), path)
    if not path.exists() and (path.is_absolute() or str(images).startswith((".", "~")) or str(images).count("/") > 1):
        raise ValueError(f"images: there is no {path}; name a folder, a file or a data set")
    rows = open_dataset(path=str(images), split=split)
    column = first_present(rows.column_names, IMAGE_COLUMNS, "image", str(images))
    if len(rows) == 0:
        raise ValueError(f"images: {images} has no rows in split {split!r}")
    if id_column is not None:
        first_present(rows.column_names, [id_column], "id", str(images))
    ids = [str(x) for x in rows[id_column]] if id_column else [str(i) for i in range(len(rows))]
    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    rows = rows.select_columns([column])
    return Collection(ids, lambda i: rows[i][column], str(rows._fingerprint))
