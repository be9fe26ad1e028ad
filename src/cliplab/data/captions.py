"""Image-caption pairs by row, from any Hugging Face data set."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import datasets
import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from cliplab.data.fingerprint import content_fingerprint
from cliplab.data.hub import first_present, open_dataset
from cliplab.data.images import BadImage, decode_image, decode_pixels
from cliplab.data.order import sample_rng
from cliplab.data.transforms import EvalTransform

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img")
CAPTION_COLUMNS = ("caption", "captions", "text", "txt", "alt_text", "caption_0", "TEXT", "sentences", "sentence")

MOST_BAD = 1000  # unusable rows one after the other, after which a source is given up
MOST_CHARACTERS = 10_000  # of a caption; no tower reads as many, and cleaning megabytes would take seconds


class Sample(NamedTuple):
    """One training pair: uint8 ``[3, size, size]``, its caption, where it comes from and what it shows. ``bad`` is (reason,
    place) of the row that should have been here, when it was unusable and this is the next usable one instead."""

    image: Tensor
    caption: str
    epoch: int
    index: int  # type: ignore[assignment]
    group: int
    bad: tuple[str, str] | None = None


def first_usable(read: Callable[[int], Sample], most: int, place: str) -> Sample:
    """``read(0)``, else the first of ``read(1)``, … that is usable. Only the first is noted as ``bad``: each of the others
    is read, and noted, in its own turn. Raises RuntimeError after ``most`` unusable ones."""
    reason = ""
    for attempt in range(most):
        try:
            sample = read(attempt)
        except BadImage as error:
            reason = reason or error.reason
        else:
            return sample._replace(bad=(reason, place)) if reason else sample
    raise RuntimeError(f"{most} rows one after the other are unusable, from {place} ({reason}) on")


def _texts(value: Any) -> list[str]:
    """Every text in a cell, empty ones too."""
    if value is None:
        return []
    if isinstance(value, bytes):
        value = value[: 4 * MOST_CHARACTERS].decode("utf8", errors="replace")
    if isinstance(value, str):
        return [line.strip() for line in value[:MOST_CHARACTERS].split("\n")]
    if isinstance(value, dict):
        return _texts(next((value[c] for c in ("raw", *CAPTION_COLUMNS) if value.get(c) is not None), None))
    if isinstance(value, Sequence):
        return [text for v in value for text in _texts(v)]
    raise BadImage("caption_not_text", type(value).__name__)


def captions_of(value: Any) -> list[str]:
    """All captions in a cell: a string (one per line), bytes, a list, or a dictionary with a caption in it.

    Raises BadImage with reason ``no_caption``, ``empty_caption`` or ``caption_not_text``.
    """
    found = _texts(value)
    if not any(found):
        raise BadImage("empty_caption" if found else "no_caption")
    return [text for text in found if text]


class CaptionRows:
    """What map-style and streaming sources share: columns, decoding, choosing one of several captions."""

    def __init__(
        self, columns: Sequence[str], where: str, image_columns: Sequence[str], caption_columns: Sequence[str]
    ):
        self.image_column = first_present(columns, image_columns, "image", where)
        self.caption_column = first_present(columns, caption_columns, "caption", where)
        numbered = [c for c in columns if c.startswith("caption_") and c[8:].isdigit()]
        self.caption_columns = numbered if self.caption_column in numbered else [self.caption_column]

    def captions(self, row: dict[str, Any]) -> list[str]:
        return captions_of([row[column] for column in self.caption_columns])


class CaptionDataset(Dataset):
    """Image-caption pairs by row. ``dataset[(epoch, index)]`` gives a Sample that depends on (seed, epoch, index) alone.

    The data set is opened from ``path`` (hub id, local folder or file) or handed over as ``dataset``. Of several
    captions one is drawn. A picture or caption that cannot be read is replaced by the next row, which is noted in the
    sample. ``group_column`` tells which rows show the same thing. ``cache_images`` keeps each picture, decoded and fitted
    by the evaluation transform, in memory (uint8; each worker has its own) and skips the training transform. ``limit``
    keeps the first rows only.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        dataset: Any = None,
        split: str = "train",
        name: str | None = None,
        revision: str | None = None,
        data_files: str | Sequence[str] | None = None,
        image_columns: Sequence[str] = IMAGE_COLUMNS,
        caption_columns: Sequence[str] = CAPTION_COLUMNS,
        group_column: str | None = None,
        cache_images: bool = False,
        limit: int | None = None,
        credits: Sequence[str] = (),
    ) -> None:
        if dataset is None:
            if not path:
                raise ValueError("data.path is not set; give a local folder or a hub id: data.path=…")
            dataset = open_dataset(path=path, split=split, name=name, revision=revision, data_files=data_files)
        where = path or "data set"
        if limit is not None:
            dataset = dataset.select(range(min(limit, len(dataset))))
        if len(dataset) == 0:
            raise ValueError(f"{where}: split {split!r} is empty")
        self.rows = CaptionRows(dataset.column_names, where, image_columns, caption_columns)
        if isinstance(dataset.features[self.rows.image_column], datasets.Image):
            dataset = dataset.cast_column(self.rows.image_column, datasets.Image(decode=False))
        if group_column is not None:
            first_present(dataset.column_names, [group_column], "group", where)
        self.dataset, self.group_column, self.credits = dataset, group_column, tuple(credits)
        self.cache_images = cache_images
        self.groups = np.asarray(dataset[group_column]) if group_column else np.arange(len(dataset))
        self._cache: dict[int, Tensor] = {}
        self.seed, self.train_transform, self.eval_transform = 0, None, None

    def prepare(self, *, seed: int, train_transform: Any, eval_transform: Any) -> None:
        """Set by the data module: the seed of all draws, and the transforms."""
        self.seed, self.train_transform, self.eval_transform = seed, train_transform, eval_transform

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.dataset._fingerprint} {len(self.dataset)}".encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.dataset)

    def picture(self, index: int) -> Image.Image:
        return decode_image(self.dataset[index][self.rows.image_column])

    def pair(self, index: int) -> tuple[Tensor, list[str]]:
        """Picture through the evaluation transform, and all its captions."""
        row = self.dataset[index]
        assert self.eval_transform is not None
        try:
            return self.eval_transform(decode_image(row[self.rows.image_column])), self.rows.captions(row)
        except BadImage as error:
            raise ValueError(f"row {index} of the evaluation pairs cannot be read: {error}; remove it") from error

    def _read(self, epoch: int, index: int) -> Sample:
        rng = sample_rng(self.seed, epoch, index)
        row = self.dataset[index]
        captions = self.rows.captions(row)
        caption = captions[int(rng.integers(len(captions)))]
        if self.cache_images:
            if index not in self._cache:
                self._cache[index] = self.eval_transform(decode_image(row[self.rows.image_column]))  # type: ignore[misc]
            image = self._cache[index]
        else:
            image = self.train_transform(decode_pixels(row[self.rows.image_column]), rng)  # type: ignore[misc]
        return Sample(image, caption, epoch, index, int(self.groups[index]))

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        size = len(self.dataset)
        return first_usable(lambda k: self._read(epoch, (index + k) % size), min(size, MOST_BAD), f"row {index}")


class CaptionPairs(Dataset):
    """A caption data set seen by the retrieval evaluator: ``[i]`` gives (uint8 image, captions)."""

    def __init__(self, source: CaptionDataset) -> None:
        self.source, self.transform, self.credits = source, source.eval_transform, source.credits

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the pictures and the captions; see ``content_fingerprint``."""
        rows = self.source.rows
        captions = [list(self.source.dataset[column]) for column in rows.caption_columns]
        return content_fingerprint(self.source.dataset, rows.image_column, repr(captions).encode())

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, list[str]]:
        return self.source.pair(index)

    def picture(self, index: int) -> Image.Image:
        return self.source.picture(index)


def caption_pairs(
    *,
    path: str | None,
    image_size: int,
    split: str = "test",
    name: str | None = None,
    data_files: str | Sequence[str] | None = None,
    image_columns: Sequence[str] = IMAGE_COLUMNS,
    caption_columns: Sequence[str] = CAPTION_COLUMNS,
    limit: int | None = None,
) -> CaptionPairs:
    """A caption set for retrieval, by row, with all captions of each picture; see CaptionDataset."""
    source = CaptionDataset(
        path=path,
        split=split,
        name=name,
        data_files=data_files,
        image_columns=image_columns,
        caption_columns=caption_columns,
        limit=limit,
    )
    transform = EvalTransform(image_size)
    source.prepare(seed=0, train_transform=transform, eval_transform=transform)
    return CaptionPairs(source)


def stack(samples: Sequence[Sample]) -> Tensor:
    """Written straight into shared memory when a worker does it."""
    return default_collate([s.image for s in samples])
