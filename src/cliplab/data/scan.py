"""What is found out about all rows at once, without decoding a picture: which are wanted, and a fingerprint."""

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
SHOW_PROGRESS = 100_000  # rows from which a bar is worth its line


def read_row(dataset: datasets.Dataset, number: int) -> dict[str, Any]:
    """One row; strings that are no UTF-8 are read as far as they go."""
    try:
        return dataset[number]
    except UnicodeDecodeError:
        return to_rows(dataset.with_format("arrow")[number : number + 1])[0]


def wanted_samples(dataset: datasets.Dataset, rows: CaptionRows) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Row and caption number of each sample, int64 ``[samples]`` each, and how many rows were refused, by reason.

    The columns it takes are read once, and the answer is kept in the cache of the datasets library.
    """
    needed = rows.needed_to_choose
    if not needed:
        everything = np.arange(len(dataset))
        return everything, np.zeros_like(everything), Counter()

    def look(table: Any) -> dict[str, list[Any]]:
        found = [(rows.refused(row), rows.count(row)) for row in to_rows(table)]
        return {"refused": [reason for reason, _ in found], "samples": [0 if r else count for r, count in found]}

    facts = f"{cache_key(dataset)} {len(dataset)} {rows.order_facts}"
    options = {"batched": True, "batch_size": 100, "remove_columns": needed}
    options["new_fingerprint"] = hashlib.sha256(facts.encode()).hexdigest()[:16]
    columns = dataset.select_columns(needed).with_format("arrow")
    if len(dataset) < SHOW_PROGRESS:
        with no_progress_bars():
            looked = columns.map(look, **options)
    else:
        looked = columns.map(look, **options, desc="Looking which rows are wanted")
    answer = looked.with_format("arrow")[:]  # whole columns at once
    counts = answer["samples"].to_numpy()
    kept = np.repeat(np.arange(len(dataset)), counts)
    which = np.arange(len(kept)) - np.repeat(np.cumsum(counts) - counts, counts)
    return kept, which, Counter(reason for reason in answer["refused"].to_pylist() if reason)


def pairs_fingerprint(dataset: datasets.Dataset, rows: CaptionRows) -> str:
    """A hash of the captions and of an even spread of pictures; where they lie does not matter."""
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
