"""From what a config says of a source to the source itself, by row or streaming."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import datasets

from cliplab.data.captions import open_captions
from cliplab.data.columns import CAPTION_COLUMNS, IMAGE_COLUMNS
from cliplab.data.filters import RowFilters
from cliplab.data.local import DataFiles, folder_of
from cliplab.data.mixture import CaptionMixture, StreamMixture, caption_mixture
from cliplab.data.opening import Location, OpenedRows, open_layout
from cliplab.data.rows import CaptionRows
from cliplab.data.source import CaptionSource
from cliplab.data.stream import CaptionStream
from cliplab.rules import Count


def caption_source(
    *,
    path: str | None = None,
    dataset: datasets.Dataset | None = None,
    split: str | Sequence[str] = "train",
    name: str | None = None,
    revision: str | None = None,
    data_files: DataFiles = None,
    reader: Mapping[str, Any] | None = None,
    image_columns: Sequence[str] = IMAGE_COLUMNS,
    caption_columns: Sequence[str] = CAPTION_COLUMNS,
    caption_format: str = "lines",
    caption_choice: Literal["random", "first", "all"] = "random",
    filters: RowFilters | None = None,
    on_error: Literal["replace", "stop"] = "replace",
    group_column: str | None = None,
    cache_images: bool = False,
    limit: Count | None = None,
    streaming: bool = False,
    samples_per_epoch: Count | None = None,
    shuffle_buffer: Count = 6000,
    parts: Count = 12,
    lanes: Count | None = None,
) -> CaptionSource:
    """The source that a config describes. Its keys are those of Location, CaptionRows, CaptionDataset and CaptionStream,
    which is made when ``streaming``. Raises ValueError when no path is set, or a stream is asked for what needs rows."""
    columns: dict[str, Any] = {
        "image_columns": image_columns,
        "caption_columns": caption_columns,
        "caption_format": caption_format,
        "caption_choice": caption_choice,
        "filters": filters,
    }
    if streaming and (dataset is not None or group_column or cache_images or limit):
        raise ValueError(
            "data.streaming: this source is read by row (groups, cache or a limit); set data.streaming=false"
        )
    by_row: dict[str, Any] = {
        "group_column": group_column,
        "cache_images": cache_images,
        "limit": limit,
        "on_error": on_error,
    }
    if dataset is not None:
        return open_captions(OpenedRows(dataset, lambda number: f"row {number}"), "data set", columns, **by_row)
    if not path:
        raise ValueError("data.path is not set; give a local folder or a hub id: data.path=…")
    location = Location(path, split, name, revision, data_files, reader)
    if not streaming:
        return open_captions(location, path, columns, **by_row)
    layout = open_layout(location)
    if not layout.columns:
        raise ValueError(f"{path}: split {split!r} is empty")
    return CaptionStream(
        layout,
        location,
        CaptionRows(layout.columns, path, root=folder_of(path), **columns),
        samples_per_epoch=samples_per_epoch,
        shuffle_buffer=shuffle_buffer,
        parts=parts,
        lanes=lanes,
        on_error=on_error,
    )


def own_mixture(
    *,
    sources: Mapping[str, str | Mapping[str, Any]] | None,
    weights: Mapping[str, float] | None = None,
    samples_per_epoch: Count | None = None,
    image_columns: Sequence[str] = IMAGE_COLUMNS,
    caption_columns: Sequence[str] = CAPTION_COLUMNS,
    caption_format: str = "lines",
    caption_choice: Literal["random", "first", "all"] = "random",
    on_error: Literal["replace", "stop"] = "replace",
    streaming: bool = False,
) -> CaptionMixture | StreamMixture:
    """A mixture of sources named by path or hub id alone, or by options of ``caption_source``; the arguments here hold for
    each that does not say otherwise. Raises ValueError naming the source that cannot be opened, or its wrong option."""
    shared: dict[str, Any] = {
        "image_columns": image_columns,
        "caption_columns": caption_columns,
        "caption_format": caption_format,
        "caption_choice": caption_choice,
        "on_error": on_error,
        "streaming": streaming,
    }
    known, opened = inspect.signature(caption_source).parameters, {}
    for name, source in (sources or {}).items():
        options: dict[str, Any] = {"path": source} if isinstance(source, str) else dict(source)
        wrong = sorted(set(options) - set(known))
        if wrong:
            raise ValueError(f"data.train.sources.{name}.{wrong[0]}: no such option; there are {', '.join(known)}")
        try:
            if isinstance(options.get("filters"), Mapping):
                options["filters"] = RowFilters(**options["filters"])
            opened[name] = caption_source(**{**shared, **options})
        except (ValueError, TypeError) as error:
            raise ValueError(f"data.train.sources.{name}: {error}") from error
    return caption_mixture(sources=opened, weights=weights, samples_per_epoch=samples_per_epoch)
