"""Splits that a column of a local table names, as in Karpathy's files for COCO."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cliplab.data.filters import RowFilters
from cliplab.data.local import local_path
from cliplab.data.opening import Location
from cliplab.data.rows import RowSettings
from cliplab.data.splits import SPLIT_NAMES, names_of_split

COLUMN = "split"
FOR_TRAINING = "restval"  # Karpathy's name for the part of COCO's validation set that everyone trains on

Settings = TypeVar("Settings", bound=RowSettings)


def values_of(split: str) -> list[str]:
    """The values that rows of a split may have in the column."""
    names = [*dict.fromkeys(names_of_split(split))]
    return [*names, FOR_TRAINING] if "train" in names else names


def of_split(
    location: Location, settings: Settings, columns: Sequence[str], first: Callable[[], Mapping[str, Any]]
) -> Settings:
    """The settings, with a filter for the rows of the wanted split where a local source names splits in a column.

    It does when ``columns`` have ``split`` and the ``first`` row names a split there. A filter on that column that is set
    already remains as it is.
    """
    filters = settings.filters or RowFilters()
    if COLUMN not in columns or COLUMN in filters.column_equals or local_path(location.where) is None:
        return settings
    known = {*SPLIT_NAMES, FOR_TRAINING, *location.splits}
    if first().get(COLUMN) not in known:
        return settings
    chosen = copy.copy(filters)
    wanted = [value for split in location.splits for value in values_of(split)]
    chosen.column_equals = {**filters.column_equals, COLUMN: wanted}
    return replace(settings, filters=chosen)
