"""A folder of pictures with a text of the same name beside each, as img2dataset writes with ``output_format=files``."""

import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import datasets
import pyarrow
from datasets.table import InMemoryTable

from cliplab.data.layout import Part, Row
from cliplab.data.local import PICTURES, fingerprint_of_files, name_within
from cliplab.data.tables.text import decoded
from cliplab.data.tar.captions import captions_in
from cliplab.data.tar.samples import JSONS, TEXTS

LOOKED_AT = 100  # pictures that are tried for a text
ABOUT_FOLDERS = ("readme", "licen", "copying", "notice", "credits")  # texts that are no captions


def _name(file: str) -> tuple[str, str]:
    """A path without its last extension, and that extension in lower case without the dot."""
    stem, extension = os.path.splitext(file)
    return stem, extension[1:].lower()


def _is_picture(file: str) -> bool:
    return file.lower().endswith(PICTURES)


def has_caption_files(files: Sequence[str]) -> bool:
    """Whether one of the first pictures has a text of the same name beside it."""
    texts = {stem for stem, extension in map(_name, files) if extension in TEXTS}
    return any(_name(file)[0] in texts for file in itertools.islice(filter(_is_picture, files), LOOKED_AT))


def _alone(files: Sequence[str], pictures: Sequence[str]) -> list[str]:
    """Captions whose pictures are missing."""
    folders, described = {os.path.dirname(file) for file in pictures}, {_name(file)[0] for file in pictures}
    texts = [file for file in files if _name(file)[1] in TEXTS and os.path.dirname(file) in folders]
    lone = [file for file in texts if _name(file)[0] not in described]
    return [file for file in lone if not os.path.basename(file).lower().startswith(ABOUT_FOLDERS)]


class CaptionFiles:
    """Rows are pictures; ``caption`` is the text of the same name: ``.txt``, ``.caption``, or else a field of ``.json``.

    Captions are looked for in the extensions or JSON fields ``caption_names`` first. A picture without a text has None. A
    text in a folder of pictures that has none is ``damaged``, other than one about the folder.
    """

    suffixes: ClassVar[Sequence[str]] = (".txt",)
    precedence: ClassVar[int] = 80
    columns: Sequence[str] = ("image", "caption")

    def __init__(self, files: Sequence[str], root: Path, *, caption_names: Sequence[str] = ()) -> None:
        self.root, self.caption_names = root, tuple(caption_names)
        beside: dict[str, dict[str, str]] = {}
        for file in files:
            stem, extension = _name(file)
            if extension in TEXTS | JSONS | {name.lower() for name in caption_names}:
                beside.setdefault(stem, {})[extension] = file
        self.pictures = [file for file in files if _is_picture(file)]
        self.texts = [beside.get(_name(file)[0], {}) for file in self.pictures]
        self.damaged = [(name_within(file, root), "no_picture") for file in _alone(files, self.pictures)]
        self.parts = [Part(root.name, len(self.pictures))]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the names and sizes of all files and the content of the texts."""
        texts = [file for beside in self.texts for file in beside.values()]
        return f"{fingerprint_of_files([*self.pictures, *texts], self.root)} {self.caption_names}".strip(" ()")

    def _captions(self, number: int) -> list[str] | None:
        files = self.texts[number]
        plain = {extension: file for extension, file in files.items() if extension not in JSONS}
        for some in (files,) if self.caption_names else (plain, files):
            found = captions_in(
                {key: decoded(Path(file).read_bytes()) for key, file in some.items()}, self.caption_names
            )
            if found and any(text.strip() for text in found):
                return found
        return found

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        for number in range(start, len(self.pictures)):
            yield Row({"image": self.pictures[number], "caption": self._captions(number)}, self.place(number))

    def dataset(self, split: str) -> datasets.Dataset:
        captions = pyarrow.array(map(self._captions, range(len(self.pictures))), pyarrow.list_(pyarrow.string()))
        table = pyarrow.table({"image": [os.path.abspath(file) for file in self.pictures], "caption": captions})
        return datasets.Dataset(InMemoryTable(table), fingerprint=self.fingerprint.split()[0])

    def place(self, number: int) -> str:
        return name_within(self.pictures[number], self.root)
