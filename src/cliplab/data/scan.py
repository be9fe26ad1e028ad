"""Passes over all rows without decoding an image: which rows the filters let through, and a fingerprint."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np

from cliplab.data.cells import to_columns, to_rows
from cliplab.data.images import encoded
from cliplab.data.library import cache_key, no_progress_bars
from cliplab.data.rows import CaptionRows

HASHED_CAPTIONS, HASHED_PICTURES = 1_000_000, 256  # rows, evenly spread
SHOW_PROGRESS = 100_000  # rows from which a progress bar is shown


def read_row(dataset: datasets.Dataset, number: int) -> dict[str, Any]:
    """One row. Bytes of a string that are not UTF-8 become replacement characters."""
    try:
        return dataset[number]
    except UnicodeDecodeError:
        return to_rows(dataset.with_format("arrow")[number : number + 1])[0]


def wanted_samples(dataset: datasets.Dataset, rows: CaptionRows) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Row and caption number of each sample, int64 ``[samples]`` each, and how many rows were refused, by reason.

    The columns that filters need are read once. The result is kept in the cache of the datasets library.
    """
    needed = rows.needed_to_choose
    if not needed:
        everything = np.arange(len(dataset))
        return everything, np.zeros_like(everything), Counter()

    def judge(table: Any) -> dict[str, list[Any]]:
        judged = [(rows.refused(row), rows.count(row)) for row in to_rows(table)]
        return {"refused": [reason for reason, _ in judged], "samples": [0 if r else count for r, count in judged]}

    facts = f"{cache_key(dataset)} {len(dataset)} {rows.order_facts}"
    options = {"batched": True, "batch_size": 100, "remove_columns": needed}
    options["new_fingerprint"] = hashlib.sha256(facts.encode()).hexdigest()[:16]
    columns = dataset.select_columns(needed).with_format("arrow")
    if len(dataset) < SHOW_PROGRESS:
        with no_progress_bars():
            judged = columns.map(judge, **options)
    else:
        judged = columns.map(judge, **options, desc="Filtering rows")
    verdicts = judged.with_format("arrow")[:]  # whole columns at once
    counts = verdicts["samples"].to_numpy()
    kept = np.repeat(np.arange(len(dataset)), counts)
    which = np.arange(len(kept)) - np.repeat(np.cumsum(counts) - counts, counts)
    return kept, which, Counter(reason for reason in verdicts["refused"].to_pylist() if reason)


def pairs_fingerprint(dataset: datasets.Dataset, rows: CaptionRows) -> str:
    """A hash of the captions and of images, evenly spread over the data set. The place of the files does not matter."""
    digest = hashlib.sha256(f"{len(dataset)} {sorted(dataset.column_names)}".encode())
    step = 1 + len(dataset) // HASHED_CAPTIONS
    captions = dataset.select_columns(rows.caption_columns).with_format("arrow")
    captions = captions.select(range(0, len(dataset), step)) if step > 1 else captions
    for batch in captions.iter(batch_size=10_000):
        digest.update(repr(to_columns(batch)).encode(errors="surrogatepass"))
    pictures = dataset.select_columns([rows.image_column])
    for index in range(0, len(dataset), 1 + len(dataset) // HASHED_PICTURES):
        value = rows.picture(pictures[index])
        if isinstance(value, Mapping):
            inside = value.get("offset") is not None
            value = encoded(value) if inside else value.get("bytes") or value.get("path")
        if isinstance(value, str) and os.path.isfile(value):
            value = os.path.getsize(value)
        digest.update(value if isinstance(value, bytes) else repr(value).encode())
    return digest.hexdigest()
