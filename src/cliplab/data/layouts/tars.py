"""Tars of images and texts (webdataset's layout): the members that share a key are a sample."""

import bisect
import functools
import hashlib
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pyarrow
from datasets.table import InMemoryTable

from cliplab.data.layout import DamagedPart, Part, Row
from cliplab.data.tar.index import IndexedTar, index_tar
from cliplab.distributed import rank

READ_AT_ONCE = 64  # rows
INDEXED_TOGETHER = 8  # tars, in threads: the time is mostly spent waiting for the disk
SHOWN_EVERY = 5.0  # seconds between lines about the progress


class TarReader:
    """Rows are samples. ``index_tar`` explains their columns: ``image`` is the member that is an image, ``caption`` comes
    from ``.txt``, ``.caption`` or a field of ``.json``, and each member has a column named by its extension.

    Captions are looked for in the members or JSON fields ``caption_names`` first. Damaged and empty tars are listed in
    ``damaged``; their readable samples are used. Raises ValueError when no tar has a sample.
    """

    suffixes: ClassVar[Sequence[str]] = (
        *(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"),
    )
    precedence: ClassVar[int] = 0  # img2dataset writes tables about the tars beside them

    def __init__(self, files: Sequence[str], root: Path, *, caption_names: Sequence[str] = ()) -> None:
        self.files, self.root, self.caption_names = list(files), root, tuple(caption_names)
        self.parts = [Part(self._name(file)) for file in self.files]

    def _name(self, file: str) -> str:
        return os.path.relpath(file, self.root) if self.root.is_dir() else os.path.basename(file)

    def _index(self, part: int) -> IndexedTar:
        try:
            return index_tar(self.files[part], self.caption_names)
        except PermissionError as error:
            return IndexedTar(_EMPTY, [("unreadable_tar", str(error))])

    @functools.cached_property
    def columns(self) -> list[str]:
        """The columns of the first tar that has samples. Raises ValueError when none has."""
        for part in range(len(self.files)):
            table = self._index(part).table
            if table.num_rows:
                return [*table.column_names]
        raise ValueError(self._no_sample())

    def _no_sample(self) -> str:
        faults = [f"{self._name(file)}: {self._index(k).faults[0][1]}" for k, file in enumerate(self.files[:10])]
        return f"there is no sample in {len(self.files)} tars; {'; '.join(faults)}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the names, sizes and ends of the files."""
        digest = hashlib.sha256(repr(self.caption_names).encode())
        for part, file in zip(self.parts, self.files, strict=True):
            size = os.path.getsize(file)
            with open(file, "rb") as opened:
                ends = opened.read(4096)
                opened.seek(max(0, size - 4096))
                ends += opened.read()
            digest.update(f"{part.name} {size} ".encode() + hashlib.sha256(ends).digest())
        return digest.hexdigest()[:16]

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        """The samples of a tar with their images' bytes. Raises DamagedPart after the last sample that can be read."""
        indexed, name = self._index(part), self.parts[part].name
        for begin in range(start, indexed.table.num_rows, READ_AT_ONCE):
            for values in indexed.table.slice(begin, READ_AT_ONCE).to_pylist():
                yield Row(_with_bytes(values), f"{name}: {values['__key__']}")
        if indexed.faults:
            reason, detail = indexed.faults[0]
            raise DamagedPart(f"{name}: {detail}", reason, lost=_lost(indexed, self.usual_rows))

    @functools.cached_property
    def usual_rows(self) -> int:
        """The number of samples of the first tar that has any, an estimate for damaged ones. 0 when none has any."""
        counts = (self._index(part).table.num_rows for part in range(len(self.files)))
        return next(filter(None, counts), 0)

    @functools.cached_property
    def _indexed(self) -> list[IndexedTar]:
        """The index of each tar. The progress is printed every ``SHOWN_EVERY`` seconds."""
        indexed, shown = list[IndexedTar](), time.monotonic()
        with ThreadPoolExecutor(INDEXED_TOGETHER) as pool:
            for tar in pool.map(self._index, range(len(self.files))):
                indexed.append(tar)
                if time.monotonic() - shown > SHOWN_EVERY and rank() == 0:
                    shown = time.monotonic()
                    print(
                        f"looking into the tars: {len(indexed):,} of {len(self.files):,}", file=sys.stderr, flush=True
                    )
        return indexed

    @functools.cached_property
    def damaged(self) -> list[tuple[str, str]]:
        """One entry for each lost sample. A damaged tar is assumed to have had the mean of the sound ones."""
        sound = [tar.table.num_rows for tar in self._indexed if not tar.faults]
        mean = sum(sound) / len(sound) if sound else 0
        found = []
        for part, tar in zip(self.parts, self._indexed, strict=True):
            for reason, detail in tar.faults[:1]:
                found += [(f"{part.name}: {detail}", reason)] * _lost(tar, round(mean))
        return found

    @functools.cached_property
    def _starts(self) -> list[int]:
        """For each tar, the number of its first row among all rows."""
        return list(itertools.accumulate((tar.table.num_rows for tar in self._indexed), initial=0))

    def dataset(self, split: str) -> datasets.Dataset:
        """All samples, where an image is the place of its bytes. Raises ValueError when there is no sample."""
        table = pyarrow.concat_tables([tar.table for tar in self._indexed], promote_options="default")
        if not table.num_rows:
            raise ValueError(self._no_sample())
        return datasets.Dataset(InMemoryTable(table), fingerprint=self.fingerprint)

    def place(self, number: int) -> str:
        part = bisect.bisect_right(self._starts, number) - 1
        key = self._indexed[part].table["__key__"][number - self._starts[part]].as_py()
        return f"{self.parts[part].name}: {key}"


def _lost(tar: IndexedTar, usual: int) -> int:
    """How many samples a damaged tar has lost, assuming that it had the ``usual`` number."""
    return 1 if tar.faults[0][0] == "empty_tar" else max(1, usual - tar.table.num_rows)


def _with_bytes(values: dict[str, Any]) -> dict[str, Any]:
    """The row with the bytes of its image."""
    place = values["image"]
    if place is not None:
        with open(place["path"], "rb") as file:
            file.seek(place["offset"])
            values["image"] = {"bytes": file.read(place["size"]), "path": None}
    return values


_EMPTY = pyarrow.table({"__key__": pyarrow.array([], pyarrow.string())})
READER = TarReader
