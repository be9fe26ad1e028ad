"""From the settings of a source to the source: read by row, or streamed."""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from cliplab.data.captions import ByRowSettings, CaptionDataset, captions_of_rows, open_captions
from cliplab.data.fields import takes_fields
from cliplab.data.filters import RowFilters
from cliplab.data.layout import DamagedPart, Layout
from cliplab.data.local import check_split, local_path
from cliplab.data.mixture import CaptionMixture, StreamMixture, caption_mixture
from cliplab.data.opening import Location, OpenedRows, open_layout
from cliplab.data.patterns import is_pattern
from cliplab.data.rows import PairSettings
from cliplab.data.source import CaptionSource
from cliplab.data.split_column import COLUMN, of_split
from cliplab.data.stream import CaptionStream, StreamSettings
from cliplab.rules import Count


@dataclass(frozen=True, kw_only=True)
class SourceSettings(StreamSettings, ByRowSettings, Location):
    """The keys of ``data.train``: where a data set is, how its rows are read, and how they are streamed or read by number.

    ``dataset`` takes the place of ``path`` for rows that are open already.
    """

    dataset: datasets.Dataset | None = None
    streaming: bool = False


@takes_fields(SourceSettings)
def caption_source(settings: SourceSettings) -> CaptionSource:
    """Open the source that a config describes. Raises ValueError when no path is set, or when a stream is asked for
    something that needs rows by number."""
    if settings.dataset is not None:
        return _opened(settings)
    local = local_path(settings.where)
    if local is not None:
        _refuse_hub_keys(settings)
    source = _opened(settings)
    by_column = COLUMN in source.rows.filters.column_equals
    if local is not None and not by_column:
        _check_splits(settings, local)
    return source


def _opened(settings: SourceSettings) -> CaptionSource:
    return _streamed(settings) if settings.streaming else _by_row(settings)


def _refuse_hub_keys(location: Location) -> None:
    """Raises ValueError for keys that change nothing about local files."""
    for key in ("name", "revision"):
        if getattr(location, key) is not None:
            raise ValueError(
                f"data.train.{key}: {location.where} is local, and {key}={getattr(location, key)} is for data on a hub; "
                "leave it out, or name a folder or files: data.path=…, data.train.data_files=…"
            )


def _check_splits(location: Location, path: Path) -> None:
    """Raises ValueError for splits that no local file is named after."""
    if location.data_files is None and not is_pattern(location.where):
        for split in location.splits:
            check_split(path, split)


def _by_row(settings: SourceSettings) -> CaptionDataset:
    if settings.dataset is not None:
        return captions_of_rows(OpenedRows(settings.dataset, lambda number: f"row {number}"), "data set", settings)
    return open_captions(settings, settings)


def _streamed(settings: SourceSettings) -> CaptionStream:
    if settings.dataset is not None or settings.group_column or settings.cache_images or settings.limit:
        raise ValueError(
            "data.streaming: this source is read by row (groups, cache or a limit); set data.streaming=false"
        )
    where, layout = settings.where, open_layout(settings)
    if not layout.columns:
        raise ValueError(f"{where}: split {settings.split!r} is empty")
    return CaptionStream(layout, settings, of_split(settings, settings, layout.columns, lambda: _first_row(layout)))


def _first_row(layout: Layout) -> Mapping[str, Any]:
    """The values of the first row that can be read; empty when there is none."""
    for part in range(len(layout.parts)):
        with contextlib.suppress(DamagedPart):
            for row in layout.rows(part):
                return row.values
    return {}


@dataclass(frozen=True, kw_only=True)
class OwnMixtureSettings(PairSettings):
    """``sources`` by name, each a path, a hub id, or options of ``caption_source``. The keys of PairSettings and
    ``streaming`` hold for each source that does not set them itself. ``weights`` and ``samples_per_epoch`` are those of the
    mixture."""

    sources: Mapping[str, str | Mapping[str, Any]] | None
    weights: Mapping[str, float] | None = None
    samples_per_epoch: Count | None = None
    streaming: bool = False

    @property
    def shared(self) -> dict[str, Any]:
        """The keys that hold for each source."""
        names = [field.name for field in dataclasses.fields(PairSettings)]
        return {name: getattr(self, name) for name in (*names, "streaming")}


@takes_fields(OwnMixtureSettings)
def own_mixture(settings: OwnMixtureSettings) -> CaptionMixture | StreamMixture:
    """Open a mixture of sources that a user names. Raises ValueError naming the source that cannot be opened, or its wrong
    option."""
    opened: dict[str, CaptionSource] = {}
    for name, source in (settings.sources or {}).items():
        options = {"path": source} if isinstance(source, str) else dict(source)
        opened[name] = _named_source(f"data.train.sources.{name}", {**settings.shared, **options})
    return caption_mixture(sources=opened, weights=settings.weights, samples_per_epoch=settings.samples_per_epoch)


def _named_source(place: str, options: dict[str, Any]) -> CaptionSource:
    """The source with these options; ``place`` is its dotted key, for messages."""
    known = [field.name for field in dataclasses.fields(SourceSettings)]
    wrong = sorted(set(options) - set(known))
    if wrong:
        raise ValueError(f"{place}.{wrong[0]}: no such option; there are {', '.join(known)}")
    try:
        if isinstance(options.get("filters"), Mapping):
            options["filters"] = RowFilters(**options["filters"])
        return caption_source(**options)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: {error}") from error
