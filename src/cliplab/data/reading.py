"""Read captions without their pictures, to learn which words the training data has."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cliplab.data.captions import CaptionDataset
from cliplab.data.cells import to_rows
from cliplab.data.images import BadImage
from cliplab.data.mixture import CaptionMixture, StreamMixture
from cliplab.data.rows import CaptionRows
from cliplab.data.source import Source
from cliplab.data.stream import CaptionStream

ROWS_AT_ONCE = 1000


def training_captions(source: Source, most: int) -> Iterator[str]:
    """At most so many captions of a source, always the same ones in the same order.

    They are those of rows that are evenly spread over a data set that is read by row, and those of the first rows of a
    stream. Each source of a mixture gives an equal share. A row gives all of its captions. Rows that cannot be read, and
    those that filters refuse, are left out.
    """
    return itertools.islice(_captions(source, most), most)


def _captions(source: Source, most: int) -> Iterator[str]:
    if isinstance(source, CaptionMixture):
        sources: list[Any] = list(source.sources.values())
    elif isinstance(source, StreamMixture):
        sources = list(source.streams)
    else:
        yield from _of_rows(source, most)
        return
    for one in sources:
        yield from itertools.islice(_captions(one, most // len(sources)), most // len(sources))


def _of_rows(source: Any, most: int) -> Iterator[str]:
    rows: CaptionRows = source.rows
    if isinstance(source, CaptionDataset):
        yield from _evenly(source, rows, most)
        return
    assert isinstance(source, CaptionStream)
    for row in source.raw_rows():
        values = getattr(row, "values", None)
        if values is not None and not (rows.needed_to_choose and rows.refused(values)):
            yield from _readable(rows, values)


def _evenly(source: CaptionDataset, rows: CaptionRows, most: int) -> Iterator[str]:
    table = source.dataset.select_columns(list(rows.caption_columns)).with_format("arrow")
    wanted = dict.fromkeys(source.kept.tolist())  # a row once, also where each of its captions is a sample
    numbers = list(wanted)[:: 1 + len(wanted) // (most + 1)]
    for start in range(0, len(numbers), ROWS_AT_ONCE):
        for values in to_rows(table[numbers[start : start + ROWS_AT_ONCE]]):
            yield from _readable(rows, values)


def _readable(rows: CaptionRows, values: dict[str, Any]) -> Iterator[str]:
    try:
        captions = rows.captions(values)
    except BadImage:
        return
    rng = np.random.default_rng(sum(map(len, captions)))  # the same captions always get the same words around them
    yield from (rows.wording(caption, rng) for caption in captions)
