"""Image-caption pairs by row, from any Hugging Face data set."""

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cliplab.data.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, first_present
from cliplab.data.fingerprint import content_fingerprint
from cliplab.data.images import BadImage, decode_image, decode_pixels, encoded
from cliplab.data.layout import DataError, Row, Unusable, damaged_note
from cliplab.data.library import without_decoding
from cliplab.data.loader import RowBatches
from cliplab.data.local import DataFiles, folder_of, local_path
from cliplab.data.opening import Location, OpenedRows, open_layout, open_rows
from cliplab.data.order import epoch_permutation, sample_rng
from cliplab.data.rows import CaptionRows, RowSettings
from cliplab.data.scan import pairs_fingerprint, read_row, wanted_samples
from cliplab.data.source import (
    DRAWS,
    STAND_INS,
    EvaluationTransform,
    Sample,
    TrainingTransform,
    first_usable,
)
from cliplab.data.split_column import of_split
from cliplab.data.transforms import TrainTransform
from cliplab.rules import Count

T = TypeVar("T")


class RowSource(Dataset):
    """Samples by key, in a new random order each epoch. The base of data sets read by row and of their mixtures."""

    lanes: int | None = None
    sized = True
    damaged: Sequence[Unusable] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The keys of an epoch's samples, int64 ``[samples, 2]``."""

    def set_samples_per_epoch(self, samples: int) -> None:
        """Do nothing: the number of rows is known."""

    def batch_reader(self, *, collate: Callable, batch_size: int, num_workers: int, seed: int) -> RowBatches:
        return RowBatches(self, collate=collate, batch_size=batch_size, num_workers=num_workers, seed=seed)


@dataclass(frozen=True, kw_only=True)
class ByRowSettings(RowSettings):
    """How a data set is read by row.

    Rows with the same value in ``group_column`` show the same thing. ``cache_images`` keeps decoded pictures in memory.
    ``limit`` keeps the first rows only.
    """

    group_column: str | None = None
    cache_images: bool = False
    limit: Count | None = None


class CaptionDataset(RowSource):
    """Image-caption pairs by row. ``dataset[(epoch, index)]`` gives a Sample that depends on (seed, epoch, index) alone.

    Filters are applied once, at the start. An image or caption that cannot be read is counted, and another sample, drawn at
    random by (seed, epoch, index), replaces it; with ``on_error="stop"`` it stops the run. ``cache_images`` keeps each image
    in memory after the evaluation transform (uint8; each worker has its own copy) and skips the training transform. Raises
    ValueError when filters leave no row, DataError when a file is damaged and ``on_error`` is ``stop``.
    """

    def __init__(self, opened: OpenedRows, rows: CaptionRows, settings: ByRowSettings) -> None:
        group_column = settings.group_column
        if group_column is not None:
            group_column = first_present(opened.dataset.column_names, [group_column], "group", rows.where)
        self.opened, self.dataset, self.rows, self.damaged = opened, opened.dataset, rows, opened.damaged
        if self.damaged and rows.on_error == "stop":
            reason, place = self.damaged[0]
            raise DataError(f"{place} ({reason}); repair or remove it, or skip it with data.train.on_error=replace")
        self.kept, self.which, self.refused = wanted_samples(self.dataset, rows)
        if len(self.kept) == 0:
            raise ValueError(
                f"{rows.where}: data.train.filters leave none of {len(self.dataset)} rows: {dict(self.refused)}"
            )
        self.cache_images = settings.cache_images
        self.groups = np.asarray(self.dataset[group_column][:])[self.kept] if group_column else self.kept
        self._cache: dict[int, Tensor] = {}
        self.seed = 0
        self.train_transform: TrainingTransform | None = None
        self.eval_transform: EvaluationTransform | None = None

    def prepare(
        self, *, seed: int, train_transform: TrainingTransform, eval_transform: EvaluationTransform | None
    ) -> None:
        """Raises ValueError when images are cached and the training transform has augmentations."""
        if self.cache_images and isinstance(train_transform, TrainTransform) and train_transform.augmentations:
            raise ValueError(
                "data.train.cache_images keeps images unchanged, so workers cannot augment them: set it to false, or "
                "augment on the device (augmentation=colour_on_device, or data.augment)"
            )
        self.seed, self.train_transform, self.eval_transform = seed, train_transform, eval_transform

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the captions, a sample of the images, the filters and the choice of captions. The place of the files
        does not matter."""
        facts = f"{pairs_fingerprint(self.dataset, self.rows)} {self.rows.order_facts} {len(self)}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    @property
    def row_count(self) -> int:
        return int((self.which == 0).sum())

    @property
    def total_rows(self) -> int:
        return len(self.dataset) + len(self.damaged)

    def __len__(self) -> int:
        return len(self.kept)

    def row(self, number: int) -> Row:
        """A row of the data set by its number before filters."""
        return Row(read_row(self.dataset, number), self.opened.place(number))

    def raw_rows(self, start: int = 0) -> Iterator[Row | Unusable]:
        yield from map(self.row, range(start, len(self.dataset)))
        yield from self.damaged[max(0, start - len(self.dataset)) :]

    def place(self, index: int) -> str:
        """The place of a sample's row, for messages."""
        return self.opened.place(int(self.kept[index]))

    def _values(self, index: int) -> dict:
        return read_row(self.dataset, int(self.kept[index]))

    def picture(self, index: int) -> Image.Image:
        return decode_image(self.rows.picture(self._values(index)))

    def picture_file(self, index: int) -> bytes | None:
        """The bytes of a sample's picture, not decoded. None where no file can be read."""
        with suppress(OSError):
            return encoded(self.rows.picture(self._values(index)))
        return None

    def all_captions(self, index: int) -> list[str]:
        return self.rows.captions(self._values(index))

    def _fitted(self, index: int, values: dict) -> Tensor:
        if index not in self._cache:
            assert self.eval_transform is not None
            self._cache[index] = self.eval_transform(decode_image(self.rows.picture(values)))
        return self._cache[index]

    def _read(self, epoch: int, index: int, rng: np.random.Generator) -> Sample:
        values = self._values(index)
        caption = self.rows.choose(values, int(self.which[index]), rng)
        if self.cache_images:
            image = self._fitted(index, values)
        else:
            assert self.train_transform is not None
            image = self.train_transform(decode_pixels(self.rows.picture(values)), rng)
        return Sample(image, caption, epoch, index, int(self.groups[index]))

    def _attempts(self, epoch: int, index: int) -> Iterator[Callable[[], Sample]]:
        yield functools.partial(self._read, epoch, index, sample_rng(self.seed, epoch, index))
        rng = sample_rng(self.seed, epoch, STAND_INS + index)
        for _ in range(DRAWS):
            yield functools.partial(self._read, epoch, int(rng.integers(len(self))), rng)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        return first_usable(self._attempts(epoch, index), lambda: self.place(index), self.rows.on_error)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """(epoch, index) of each sample of an epoch, int64 ``[samples, 2]``."""
        order = epoch_permutation(len(self), seed, epoch)
        return np.stack([np.full_like(order, epoch), order], axis=1)


class CaptionPairs:
    """A caption data set for the retrieval evaluator: ``picture(i)``, and all its captions as ``target(i)``.

    Rows of a table that name the same file are one picture with all their captions, as Flickr8k's and Flickr30k's.
    """

    credits: Sequence[str] = ()

    def __init__(self, source: CaptionDataset, notes: Sequence[str] = ()) -> None:
        self.source, self.notes = source, [*notes, *_notes_on_left_out(source)]
        self.rows = _rows_by_picture(source)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the images and the captions; see ``content_fingerprint``."""
        rows = self.source.rows
        captions = [self.source.dataset[column][:] for column in rows.caption_columns]
        return content_fingerprint(self.source.dataset, rows.image_column, repr(captions).encode(), rows.picture)

    def __len__(self) -> int:
        return len(self.rows)

    def picture(self, index: int) -> Image.Image:
        return self._read(self.source.picture, self.rows[index][0])

    def target(self, index: int) -> list[str]:
        return [caption for row in self.rows[index] for caption in self._read(self.source.all_captions, row)]

    def _read(self, read: Callable[[int], T], index: int) -> T:
        try:
            return read(index)
        except BadImage as error:
            raise ValueError(
                f"{self.source.place(index)}, of the evaluation pairs, cannot be read: {error}; remove it"
            ) from error


def _rows_by_picture(source: CaptionDataset) -> Sequence[Sequence[int]]:
    """The rows of each picture, in the order of their first ones."""
    column = source.rows.image_column
    if getattr(source.dataset.features[column], "dtype", None) != "string":
        return [[row] for row in range(len(source))]
    files, rows = source.dataset[column][:], dict[str, list[int]]()
    for row, number in enumerate(source.kept):
        rows.setdefault(files[number], []).append(row)
    return list(rows.values())


def _notes_on_left_out(source: CaptionDataset) -> list[str]:
    """Sentences about the rows of a set that are not read."""
    notes = []
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in source.refused.items() if count)
    if reasons:
        notes.append(f"rows are left out: {reasons}")
    return notes + damaged_note(source.damaged)


def open_captions(location: Location, settings: ByRowSettings) -> CaptionDataset:
    """Open a data set by row. Raises UnreachableData, or ValueError when it has no row or lacks a column."""
    where = location.where
    if local_path(where) is None:  # a wrong column is reported before gigabytes are fetched
        CaptionRows(open_layout(location).columns, where, settings)
    opened = open_rows(location)
    if len(opened.dataset):
        settings = of_split(location, settings, opened.dataset.column_names, lambda: read_row(opened.dataset, 0))
    return captions_of_rows(opened, where, settings, folder_of(where))


def captions_of_rows(
    opened: OpenedRows, where: str, settings: ByRowSettings, root: Path | None = None
) -> CaptionDataset:
    """The pairs of rows that are open already; ``where`` names them in messages, and relative paths of pictures begin at
    ``root``. Raises ValueError when there is no row."""
    dataset = opened.dataset
    if settings.limit is not None:
        dataset = dataset.select(range(min(settings.limit, len(dataset))))
    if len(dataset) == 0:
        raise ValueError(f"{where}: its splits are empty; its columns are {', '.join(dataset.column_names)}")
    rows = CaptionRows(dataset.column_names, where, settings, root)
    return CaptionDataset(replace(opened, dataset=without_decoding(dataset)), rows, settings)


def caption_pairs(
    *,
    path: str | None,
    split: str = "test",
    name: str | None = None,
    data_files: DataFiles = None,
    image_columns: Sequence[str] = IMAGE_COLUMNS,
    caption_columns: Sequence[str] = CAPTION_COLUMNS,
    limit: Count | None = None,
) -> CaptionPairs:
    """A caption set for retrieval, read by row, with all captions of each image. See CaptionDataset."""
    if not path:
        raise ValueError(
            "the retrieval set has no path; give a hub id or a local folder: zeroshot.<set>.dataset.path=…"
        )
    settings = ByRowSettings(image_columns=image_columns, caption_columns=caption_columns, limit=limit)
    source = open_captions(Location(path, split, name, data_files=data_files), settings)
    notes = [] if limit is None else [f"only the first rows are read, at most {limit:,} (dataset.limit)"]
    return CaptionPairs(source, notes)
