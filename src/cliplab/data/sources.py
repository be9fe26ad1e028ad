"""One shape for every caption source, by row or streaming."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from cliplab.data.captions import CaptionDataset
from cliplab.data.hub import DataFiles
from cliplab.data.mixture import CaptionMixture, StreamMixture, caption_mixture
from cliplab.data.rows import CAPTION_COLUMNS, IMAGE_COLUMNS, RowFilters
from cliplab.data.stream import CaptionStream


def caption_source(
    *,
    path: str | None = None,
    dataset: Any = None,
    split: str | Sequence[str] = "train",
    name: str | None = None,
    revision: str | None = None,
    data_files: DataFiles = None,
    image_columns: Sequence[str] = IMAGE_COLUMNS,
    caption_columns: Sequence[str] = CAPTION_COLUMNS,
    caption_format: str = "lines",
    caption_choice: str = "random",
    filters: RowFilters | None = None,
    on_error: str = "replace",
    group_column: str | None = None,
    cache_images: bool = False,
    limit: int | None = None,
    streaming: bool = False,
    samples_per_epoch: int | None = None,
    shuffle_buffer: int = 6000,
    parts: int = 12,
    lanes: int | None = None,
) -> CaptionDataset | CaptionStream:
    """A CaptionStream when ``streaming``, else a CaptionDataset; see there and CaptionRows for the options.

    Raises ValueError when an option needs rows.
    """
    common: dict[str, Any] = {
        "path": path,
        "split": split,
        "name": name,
        "revision": revision,
        "data_files": data_files,
        "on_error": on_error,
        "image_columns": image_columns,
        "caption_columns": caption_columns,
        "caption_format": caption_format,
        "caption_choice": caption_choice,
        "filters": filters,
    }
    if not streaming:
        return CaptionDataset(
            **common, dataset=dataset, group_column=group_column, cache_images=cache_images, limit=limit
        )
    if dataset is not None or group_column or cache_images or limit:
        raise ValueError(
            "data.streaming: this source is read by row (groups, cache or a limit); set data.streaming=false"
        )
    return CaptionStream(
        **common, samples_per_epoch=samples_per_epoch, shuffle_buffer=shuffle_buffer, parts=parts, lanes=lanes
    )


def own_mixture(
    *,
    sources: Mapping[str, str | Mapping[str, Any]],
    weights: Mapping[str, float] | None = None,
    samples_per_epoch: int | None = None,
    image_columns: Sequence[str] = IMAGE_COLUMNS,
    caption_columns: Sequence[str] = CAPTION_COLUMNS,
    caption_format: str = "lines",
    caption_choice: str = "random",
    on_error: str = "replace",
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
    for name, source in sources.items():
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
