"""What a row of a caption source holds: which columns, which captions, and whether it is wanted at all."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cliplab.data.hub import first_present
from cliplab.data.images import BadImage, image_size

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img")
CAPTION_COLUMNS = ("caption", "captions", "text", "txt", "alt_text", "caption_0", "TEXT", "sentences", "sentence")
SIZE_COLUMNS = (("width", "height"), ("original_width", "original_height"), ("json.width", "json.height"))
CHOICES = ("random", "first", "all")

MOST_CHARACTERS = 10_000  # of a caption; no tower reads as many, and cleaning megabytes would take seconds


def _plain(value: Any) -> str:
    """Text of a cell. Raises BadImage when it is none."""
    if isinstance(value, bytes):
        value = value[: 4 * MOST_CHARACTERS].decode("utf8", errors="replace")
    if not isinstance(value, str):
        raise BadImage("caption_not_text", type(value).__name__)
    return value[:MOST_CHARACTERS].strip()


def _whole(value: Any) -> list[str]:
    """A string, or a list of strings, each one caption."""
    if value is None:
        return []
    if isinstance(value, str | bytes):
        return [_plain(value)]
    if isinstance(value, dict):
        return _whole(next((value[c] for c in ("raw", *CAPTION_COLUMNS) if value.get(c) is not None), None))
    if isinstance(value, Sequence | np.ndarray):
        return [text for v in value for text in _whole(v)]
    raise BadImage("caption_not_text", type(value).__name__)


def _lines(value: Any) -> list[str]:
    """Each line a caption."""
    return [line.strip() for text in _whole(value) for line in text.split("\n")]


def _walk(value: Any, path: Sequence[str]) -> list[Any]:
    """What lies at a path into nested lists and dictionaries; ``*`` is every item."""
    if not path:
        return [value]
    if path[0] == "*":
        return [found for item in (value if isinstance(value, list) else []) for found in _walk(item, path[1:])]
    if isinstance(value, list) and path[0].isdigit():
        return _walk(value[int(path[0])], path[1:]) if int(path[0]) < len(value) else []
    return _walk(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else []


def _from_json(path: str) -> Callable[[Any], list[str]]:
    def read(value: Any) -> list[str]:
        if isinstance(value, str | bytes):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise BadImage("caption_not_json", str(error)[:80]) from error
        return [text for found in _walk(value, path.split(".")) for text in _whole(found)]

    return read


def caption_reader(caption_format: str) -> Callable[[Any], list[str]]:
    """From a cell to its captions: ``lines`` (a string with one a line, or a list of such), ``text`` (a string, or a list of
    strings, each one caption), or ``json:<path>`` such as ``json:sentences.*.raw``. Raises ValueError for others."""
    if caption_format.startswith("json:"):
        return _from_json(caption_format.removeprefix("json:"))
    readers = {"lines": _lines, "text": _whole}
    if caption_format not in readers:
        raise ValueError(
            f"caption_format {caption_format!r} must be lines, text or json:<path>, as json:sentences.*.raw"
        )
    return readers[caption_format]


def captions_of(value: Any, read: Callable[[Any], list[str]] = _lines) -> list[str]:
    """All captions in a cell. Raises BadImage with reason ``no_caption``, ``empty_caption``, ``caption_not_text`` or
    ``caption_not_json``."""
    found = read(value)
    if not any(found):
        raise BadImage("empty_caption" if found else "no_caption")
    return [text for text in found if text]


def cell(row: Mapping[str, Any], column: str) -> Any:
    """``row[column]``; a dotted name reaches into nested values and JSON text, as ``json.similarity``. None when it is not
    there."""
    if column in row:
        return row[column]
    value: Any = row
    for key in column.split("."):
        if isinstance(value, str | bytes):
            try:
                value = json.loads(value)
            except ValueError:
                return None
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _number(value: Any) -> float:
    """NaN, which passes no bound, for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


class RowFilters:
    """Which rows are wanted; everything null or empty wants all.

    ``min_side`` is the smallest side in pixels, ``max_aspect`` the longer side over the shorter (both from width and
    height columns when there are any, else from the picture's header); ``min_characters`` and ``max_characters`` bound
    a caption, and a row without one left is not wanted; ``column_min`` and ``column_equals`` map columns to bounds and
    values; ``languages`` are compared with ``language_column``. A value that is not there does not pass.
    """

    def __init__(
        self,
        min_side: int | None = None,
        max_aspect: float | None = None,
        min_characters: int | None = None,
        max_characters: int | None = None,
        column_min: Mapping[str, float] | None = None,
        column_equals: Mapping[str, Any] | None = None,
        languages: Sequence[str] | None = None,
        language_column: str = "language",
    ) -> None:
        self.min_side, self.max_aspect = min_side, max_aspect
        self.min_characters, self.max_characters = min_characters, max_characters
        self.column_min, self.column_equals = dict(column_min or {}), dict(column_equals or {})
        self.languages, self.language_column = list(languages or ()), language_column

    def __repr__(self) -> str:
        return f"RowFilters({vars(self)})"

    @property
    def columns(self) -> list[str]:
        language = [self.language_column] if self.languages else []
        return [*self.column_min, *self.column_equals, *language]

    @property
    def by_size(self) -> bool:
        return self.min_side is not None or self.max_aspect is not None

    @property
    def by_caption(self) -> bool:
        return self.min_characters is not None or self.max_characters is not None

    def fits(self, caption: str) -> bool:
        least, most = self.min_characters or 0, self.max_characters or MOST_CHARACTERS
        return least <= len(caption) <= most

    def refused_by_columns(self, row: Mapping[str, Any]) -> str:
        for column, bound in self.column_min.items():
            if not _number(cell(row, column)) >= bound:
                return f"{column} below {bound}"
        for column, wanted in self.column_equals.items():
            if cell(row, column) != wanted:
                return f"{column} not {wanted}"
        if self.languages and cell(row, self.language_column) not in self.languages:
            return "language"
        return ""

    def refused_by_size(self, width: float, height: float) -> str:
        if self.min_side is not None and min(width, height) < self.min_side:
            return f"smaller than {self.min_side}"
        if self.max_aspect is not None and max(width, height) > self.max_aspect * min(width, height):
            return f"aspect above {self.max_aspect}"
        return ""


class CaptionRows:
    """What map-style and streaming sources share: columns, the captions of a row, and filters.

    ``columns`` are those found at ``where``; paths of pictures begin at ``root``. Raises ValueError naming the columns
    when one is missing.
    """

    def __init__(
        self,
        columns: Sequence[str],
        where: str,
        image_columns: Sequence[str] = IMAGE_COLUMNS,
        caption_columns: Sequence[str] = CAPTION_COLUMNS,
        caption_format: str = "lines",
        caption_choice: str = "random",
        filters: RowFilters | None = None,
        root: Path | None = None,
    ):
        if caption_choice not in CHOICES:
            raise ValueError(f"caption_choice {caption_choice!r} must be one of {', '.join(CHOICES)}")
        self.image_column = first_present(columns, image_columns, "image", where)
        self.caption_column = first_present(columns, caption_columns, "caption", where)
        numbered = [c for c in columns if c.startswith("caption_") and c[8:].isdigit()]
        self.caption_columns = numbered if self.caption_column in numbered else [self.caption_column]
        self.root = root
        self.read, self.choice, self.filters = caption_reader(caption_format), caption_choice, filters or RowFilters()
        for column in self.filters.columns:
            first_present(columns, [column.split(".")[0]], "filter", where)
        sizes = [pair for pair in SIZE_COLUMNS if all(name.split(".")[0] in columns for name in pair)]
        self.size_columns = sizes[0] if sizes else None
        self.order_facts = (
            f"{self.image_column} {self.caption_columns} {caption_format} {caption_choice} {self.filters}"
        )

    @property
    def needed_to_choose(self) -> list[str]:
        """The columns that ``refused`` and ``count`` look at."""
        wanted = [c.split(".")[0] for c in self.filters.columns]
        if self.filters.by_size:
            wanted += [c.split(".")[0] for c in self.size_columns or ()]
            sure = self.size_columns and all("." not in c for c in self.size_columns)
            wanted += [] if sure else [self.image_column]
        if self.filters.by_caption or self.choice == "all":
            wanted += self.caption_columns
        return list(dict.fromkeys(wanted))

    def picture(self, row: Mapping[str, Any]) -> Any:
        """What ``decode_image`` reads; a relative path begins at ``root``."""
        value = row.get(self.image_column)
        return str(self.root / value) if self.root and isinstance(value, str) else value

    def captions(self, row: Mapping[str, Any]) -> list[str]:
        """Those within the filter's bounds. Raises BadImage."""
        cells = [row[column] for column in self.caption_columns]
        found = captions_of(cells[0] if len(cells) == 1 else cells, self.read)
        return [text for text in found if self.filters.fits(text)] if self.filters.by_caption else found

    def choose(self, row: Mapping[str, Any], which: int, rng: np.random.Generator) -> str:
        """The caption to train on; ``which`` counts when each is a sample of its own."""
        captions = self.captions(row)
        if not captions:
            raise BadImage("empty_caption")
        if self.choice == "random":
            which = int(rng.integers(len(captions)))
        return captions[which]

    def count(self, row: Mapping[str, Any]) -> int:
        """How many samples a row makes."""
        if self.choice != "all":
            return 1
        try:
            return max(1, len(self.captions(row)))
        except BadImage:
            return 1  # it is found out, and counted, when it is read

    def refused(self, row: Mapping[str, Any]) -> str:
        """Why a row is not wanted, or nothing. An unusable row is wanted: it is counted when it is read."""
        reason = self.filters.refused_by_columns(row)
        try:
            if not reason and self.filters.by_caption and not self.captions(row):
                reason = "caption length"
            if not reason and self.filters.by_size:
                named = [cell(row, c) for c in self.size_columns or ()]
                sizes = [_number(value) for value in named]
                known = bool(sizes) and min(sizes) > 0
                reason = self.filters.refused_by_size(*(sizes if known else image_size(self.picture(row))))
        except BadImage:
            return ""
        return reason
