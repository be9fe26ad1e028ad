"""What a row of a caption source holds: which columns, which captions, and whether it is wanted at all."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cliplab.data.caption_cells import caption_reader, captions_of
from cliplab.data.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, first_present
from cliplab.data.filters import RowFilters, cell, number
from cliplab.data.images import BadImage, image_size

SIZE_COLUMNS = (("width", "height"), ("original_width", "original_height"), ("json.width", "json.height"))
CHOICES = ("random", "first", "all")


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
        self.where = where
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
        """What ``decode_image`` reads; a relative path begins at ``root``, also one in a cell ``{bytes, path}``."""
        value = row.get(self.image_column)
        if self.root and isinstance(value, str):
            return str(self.root / value)
        if self.root and isinstance(value, Mapping) and value.get("bytes") is None and value.get("offset") is None:
            path = value.get("path")
            if isinstance(path, str) and not os.path.isfile(path):
                return str(self.root / path)
        return value

    def captions(self, row: Mapping[str, Any]) -> list[str]:
        """Those within the filter's bounds. Raises BadImage."""
        cells = [row.get(column) for column in self.caption_columns]
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
                sizes = [number(value) for value in named]
                known = bool(sizes) and min(sizes) > 0
                reason = self.filters.refused_by_size(*(sizes if known else image_size(self.picture(row))))
        except BadImage:
            return ""
        return reason
