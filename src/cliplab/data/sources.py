"""The choice between rows and stream."""

from collections.abc import Sequence
from typing import Any

from cliplab.data.captions import CAPTION_COLUMNS, IMAGE_COLUMNS, CaptionDataset
from cliplab.data.stream import CaptionStream


def caption_source(
    *,
    path: str | None = None,
    dataset: Any = None,
    streaming: bool = False,
    samples_per_epoch: int | None = None,
    shuffle_buffer: int = 6000,
    parts: int = 12,
    lanes: int | None = None,
    split: str = "train",
    name: str | None = None,
    revision: str | None = None,
    data_files: str | Sequence[str] | None = None,
    image_columns: Sequence[str] = IMAGE_COLUMNS,
    caption_columns: Sequence[str] = CAPTION_COLUMNS,
    group_column: str | None = None,
    cache_images: bool = False,
    limit: int | None = None,
) -> CaptionDataset | CaptionStream:
    """A CaptionStream when ``streaming``, else a CaptionDataset; see there. Raises ValueError when an option needs rows."""
    where = {"path": path, "split": split, "name": name, "revision": revision, "data_files": data_files}
    columns = {"image_columns": image_columns, "caption_columns": caption_columns}
    if not streaming:
        rows = {"dataset": dataset, "group_column": group_column, "cache_images": cache_images, "limit": limit}
        return CaptionDataset(**where, **columns, **rows)  # type: ignore[arg-type]
    if dataset is not None or group_column or cache_images or limit:
        raise ValueError(
            "data.streaming: this source is read by row (groups, cache or a limit); set data.streaming=false"
        )
    shards = {"samples_per_epoch": samples_per_epoch, "shuffle_buffer": shuffle_buffer, "parts": parts, "lanes": lanes}
    return CaptionStream(**where, **columns, **shards)  # type: ignore[arg-type]
