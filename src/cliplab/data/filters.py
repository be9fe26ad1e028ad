"""Filters: which rows of a data set are used."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cliplab.data.caption_cells import MOST_CHARACTERS
from cliplab.rules import Count, Natural, Positive


def cell(row: Mapping[str, Any], column: str) -> Any:
    """``row[column]``. A dotted name such as ``json.similarity`` reads nested values and JSON text. None when it is
    missing."""
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


def number(value: Any) -> float:
    """The value as a number. NaN, which passes no bound, when it is not one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


class RowFilters:
    """Which rows are used. A filter that is None or empty lets all rows pass.

    ``min_side`` is the smallest side in pixels, ``max_aspect`` the longer side over the shorter. Both are checked on width
    and height columns when there are any, else on the image's header. ``min_characters`` and ``max_characters`` bound the
    captions; a row with no caption left is refused. ``column_min`` and ``column_equals`` map columns to bounds and values,
    or to lists of values of which a row has one. ``languages`` are compared with ``language_column``. A missing value does
    not pass.
    """

    def __init__(
        self,
        min_side: Count | None = None,
        max_aspect: Positive | None = None,
        min_characters: Natural | None = None,
        max_characters: Count | None = None,
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
            if not number(cell(row, column)) >= bound:
                return f"{column} below {bound}"
        for column, wanted in self.column_equals.items():
            value = cell(row, column)
            if value != wanted and not (isinstance(wanted, list | tuple) and value in wanted):
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
