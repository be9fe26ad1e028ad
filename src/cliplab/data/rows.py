"""How a row of a caption source is read: its picture, its captions, and whether it is wanted at all."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cliplab.data.caption_cells import CaptionFormat, caption_reader, captions_of
from cliplab.data.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, first_present
from cliplab.data.filters import RowFilters, cell, number
from cliplab.data.images import ZIP, BadImage, image_size
from cliplab.data.wording import CaptionPart, Wording

SIZE_COLUMNS = (("width", "height"), ("original_width", "original_height"), ("json.width", "json.height"))
Choice = Literal["random", "first", "all"]
OnError = Literal["replace", "stop"]


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """How a row is read as an image-caption pair.

    The first of ``image_columns`` and of ``caption_columns`` that exists is read. ``caption_format`` is explained at
    ``caption_reader``. Of several captions, ``caption_choice`` takes one at random or the first, or makes each a sample of
    its own. The cells of ``further_caption_columns`` hold more captions of the same picture. ``caption_part`` and
    ``caption_templates`` are explained at ``Wording``. An unusable row is replaced by another or stops the run:
    ``on_error``. Raises ValueError for an unknown choice.
    """

    image_columns: Sequence[str] = IMAGE_COLUMNS
    caption_columns: Sequence[str] = CAPTION_COLUMNS
    caption_format: CaptionFormat = "lines"
    caption_choice: Choice = "random"
    further_caption_columns: Sequence[str] = ()
    caption_part: CaptionPart = "whole"
    caption_templates: Sequence[str] | None = None
    on_error: OnError = "replace"

    def __post_init__(self) -> None:
        for key, value, known in (
            ("caption_choice", self.caption_choice, get_args(Choice)),
            ("on_error", self.on_error, get_args(OnError)),
        ):
            if value not in known:
                raise ValueError(f"data.train.{key} {value!r} must be one of {', '.join(known)}")
        _ = self.wording

    @property
    def wording(self) -> Wording:
        return Wording(self.caption_part, self.caption_templates)


@dataclass(frozen=True, kw_only=True)
class RowSettings(PairSettings):
    """How the rows of one data set are read, and which of them: ``filters``, where None wants all."""

    filters: RowFilters | None = None


def _below(root: Path, path: str) -> str:
    """The path of a picture, from the folder ``root`` on. Where a table names its own folder once more, as in
    ``train/metadata.csv`` with ``train/7.jpg``, that folder counts once if only then there is such a file."""
    if path.startswith(ZIP):
        return path
    whole = root / path
    if not whole.exists():
        parts = whole.parts
        for length, k in itertools.product(range(1, 1 + len(parts) // 2), range(len(parts))):
            again = parts[k + length : k + 2 * length]
            if parts[k : k + length] == again and (once := Path(*parts[:k], *parts[k + length :])).is_file():
                return str(once)
    return str(whole)


def picture_below(root: Path | None, value: Any) -> Any:
    """What ``decode_image`` reads for a cell. A relative path begins at ``root``, in a cell ``{bytes, path}`` too. A list of
    one picture, as in tables for chat models, is that picture."""
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    if root and isinstance(value, str):
        return _below(root, value)
    if root and isinstance(value, Mapping) and value.get("bytes") is None and value.get("offset") is None:
        path = value.get("path")
        if isinstance(path, str) and not os.path.isfile(path):
            return _below(root, path)
    return value


class CaptionRows:
    """Reads single rows of a data set: picture, captions, and whether the filters want the row.

    ``columns`` are the columns of the data set, ``where`` names it in messages, and relative paths of pictures begin at
    ``root``. Raises ValueError naming the columns when one is missing.
    """

    def __init__(self, columns: Sequence[str], where: str, settings: RowSettings, root: Path | None = None) -> None:
        self.where, self.root = where, root
        self.image_column = first_present(columns, settings.image_columns, "image", where)
        self.caption_column = first_present(columns, settings.caption_columns, "caption", where)
        numbered = [c for c in columns if c.startswith("caption_") and c[8:].isdigit()]
        self.caption_columns = numbered if self.caption_column in numbered else [self.caption_column]
        for column in settings.further_caption_columns:
            self.caption_columns.append(first_present(columns, [column], "caption", where))
        self.wording = settings.wording
        self.captions_in = caption_reader(settings.caption_format)
        self.choice, self.filters = settings.caption_choice, settings.filters or RowFilters()
        self.on_error = settings.on_error
        for column in self.filters.columns:
            first_present(columns, [column.split(".")[0]], "filter", where)
        sizes = [pair for pair in SIZE_COLUMNS if all(name.split(".")[0] in columns for name in pair)]
        self.size_columns = sizes[0] if sizes else None
        self.order_facts = (
            f"{self.image_column} {self.caption_columns} {settings.caption_format} {self.choice} {self.filters}"
        )
        if self.wording != Wording():
            self.order_facts += f" {self.wording}"

    @property
    def needed_to_choose(self) -> list[str]:
        """The columns that ``refused`` and ``count`` look at."""
        needed = [c.split(".")[0] for c in self.filters.columns]
        if self.filters.by_size:
            needed += [c.split(".")[0] for c in self.size_columns or ()]
            always_there = self.size_columns and all("." not in c for c in self.size_columns)
            needed += [] if always_there else [self.image_column]
        if self.filters.by_caption or self.choice == "all":
            needed += self.caption_columns
        return list(dict.fromkeys(needed))

    def picture(self, row: Mapping[str, Any]) -> Any:
        """See ``picture_below``."""
        return picture_below(self.root, row.get(self.image_column))

    def captions(self, row: Mapping[str, Any]) -> list[str]:
        """The captions of a row that the filters let through. Raises BadImage."""
        cells = [row.get(column) for column in self.caption_columns]
        found = captions_of(cells[0] if len(cells) == 1 else cells, self.captions_in)
        return [text for text in found if self.filters.fits(text)] if self.filters.by_caption else found

    def choose(self, row: Mapping[str, Any], which: int, rng: np.random.Generator) -> str:
        """The caption to train on. ``which`` is its number where each caption is a sample of its own."""
        captions = self.captions(row)
        if not captions:
            raise BadImage("empty_caption")
        if self.choice == "random":
            which = int(rng.integers(len(captions)))
        return self.wording(captions[which], rng)

    def count(self, row: Mapping[str, Any]) -> int:
        """How many samples a row makes."""
        if self.choice != "all":
            return 1
        try:
            return max(1, len(self.captions(row)))
        except BadImage:
            return 1  # the row is counted as unusable when it is read

    def refused(self, row: Mapping[str, Any]) -> str:
        """Why the filters refuse a row; "" when they do not. They let an unusable row through: it is counted when it is
        read."""
        reason = self.filters.refused_by_columns(row)
        try:
            if not reason and self.filters.by_caption and not self.captions(row):
                reason = "caption length"
            if not reason and self.filters.by_size:
                in_columns = [number(cell(row, c)) for c in self.size_columns or ()]
                known = bool(in_columns) and min(in_columns) > 0
                reason = self.filters.refused_by_size(*(in_columns if known else image_size(self.picture(row))))
        except BadImage:
            return ""
        return reason
