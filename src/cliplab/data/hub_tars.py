"""Tars of a data set on the hub, read by the same reader as local tars.

The datasets library finds the files of a split. Its own reader of tars is not used, since it takes the columns from the
first five samples.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import datasets
import huggingface_hub

from cliplab.data.cache import cache_root
from cliplab.data.layout import Part, Row
from cliplab.data.layouts.tars import TarReader
from cliplab.files import whole_file

LIBRARY_READER = "webdataset"  # the library's name of its reader of tars
_ADDRESS = re.compile(r"hf://datasets/([^@]+)@([^/]+)/(.+)")


class HubFile(NamedTuple):
    """A file of a data set on the hub; ``revision`` is the commit."""

    repository: str
    revision: str
    name: str

    def fetch(self, folder: Path | None = None) -> Path:
        """Download the file into the hub's cache, or into ``folder``. A file that is in the cache already stays there."""
        known: dict[str, Any] = {"repo_type": "dataset", "revision": self.revision}
        kept = huggingface_hub.try_to_load_from_cache(self.repository, self.name, **known)
        if isinstance(kept, str):
            return Path(kept)
        return Path(huggingface_hub.hf_hub_download(self.repository, self.name, local_dir=folder, **known))

    def root(self, fetched: Path) -> Path:
        """The local folder of the repository, given a fetched file."""
        return fetched.parents[self.name.count("/")]


def hub_tars(path: str, split: str, arguments: Mapping[str, Any]) -> list[HubFile] | None:
    """The tars of a split, sorted; None for data sets of another layout. ``arguments`` are those of ``load_dataset``.

    The list is kept, so that fetched tars are found again without the hub. Raises ValueError when there is
    no such split.
    """
    asked = json.dumps([path, split, arguments], sort_keys=True)
    note = cache_root() / "hub" / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
    if huggingface_hub.is_offline_mode() and note.is_file():
        return [HubFile(*file) for file in json.loads(note.read_text(encoding="utf8"))]
    tars = _listed(datasets.load_dataset_builder(path, **arguments), split)
    if tars is not None:
        with whole_file(note, sync=False) as file:
            json.dump(tars, file)
    return tars


def _listed(builder: datasets.DatasetBuilder, split: str) -> list[HubFile] | None:
    if LIBRARY_READER not in type(builder).__module__:
        return None
    files: Mapping[str, Sequence[Any]] = builder.config.data_files or {}
    if split not in files:
        raise ValueError(f"there is no split {split!r}; there are {', '.join(map(str, files))}")
    found = [_ADDRESS.fullmatch(str(address)) for address in files[split]]
    return sorted(HubFile(one[1], unquote(one[2]), one[3]) for one in found if one) if all(found) else None


def fetched_reader(tars: Sequence[HubFile], **options: Any) -> TarReader:
    """A reader of all these tars, which are fetched into the hub's cache."""
    files = [tar.fetch() for tar in tars]
    return TarReader([str(file) for file in files], tars[0].root(files[0]), **options)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # workers share the folder of their parent process
        shutil.rmtree(folder, ignore_errors=True)


class HubTars:
    """Tars on the hub. Each is fetched when it is read, and removed afterwards, so that a stream needs disk space only for
    the tars that it reads at the same time. Tars in the hub's cache are read there and kept.

    The first tar that has samples is fetched into the cache, since the columns come from it.
    """

    def __init__(self, tars: Sequence[HubFile], **options: Any) -> None:
        self.tars, self.options, self.parts = tars, options, [Part(tar.name) for tar in tars]
        self.fingerprint = hashlib.sha256(json.dumps([*tars, options]).encode()).hexdigest()
        self.folder = tempfile.mkdtemp(prefix="cliplab-tars-")
        weakref.finalize(self, _remove, self.folder, os.getpid())

    @functools.cached_property
    def _first(self) -> TarReader:
        """A reader of the first tar that has samples. Raises ValueError when none has."""
        faults = []
        for tar in self.tars:
            reader = fetched_reader([tar], **self.options)
            try:
                _ = reader.columns
            except ValueError as error:
                faults.append(str(error))
            else:
                return reader
        raise ValueError("; ".join(faults[:10]))

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the first tar that has samples. Raises ValueError when none has."""
        return self._first.columns

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        """See TarReader. A damaged tar is assumed to have had as many samples as the first tar that has any."""
        with self._fetched(self.tars[part]) as reader:
            reader.usual_rows = self._first.usual_rows
            yield from reader.rows(0, start)

    @contextmanager
    def _fetched(self, tar: HubFile) -> Iterator[TarReader]:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            file = tar.fetch(folder)
            yield TarReader([str(file)], tar.root(file), **self.options)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
