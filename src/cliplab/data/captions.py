"""Image-caption pairs by row, from any Hugging Face data set."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import datasets
import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from cliplab.data.fingerprint import content_fingerprint
from cliplab.data.hub import DataFiles, columns_of, first_present, folder_of, open_dataset
from cliplab.data.images import BadImage, decode_image, decode_pixels
from cliplab.data.order import epoch_permutation, sample_rng
from cliplab.data.parquet import to_rows
from cliplab.data.rows import CAPTION_COLUMNS, IMAGE_COLUMNS, CaptionRows
from cliplab.data.scan import pairs_fingerprint, wanted_samples

T = TypeVar("T")
MOST_BAD = 1000  # unusable rows one after the other, after which a source is given up


class Sample(NamedTuple):
    """One training pair: uint8 ``[3, size, size]``, its caption, where it comes from and what it shows.

    ``bad`` is (reason, place) of the row that should have been here, when it was unusable and this is the next usable one
    instead. ``source`` names the source in a mixture.
    """

    image: Tensor
    caption: str
    epoch: int
    index: int  # type: ignore[assignment]
    group: int
    bad: tuple[str, str] | None = None
    source: str = ""


def first_usable(read: Callable[[int], Sample], most: int, place: str, on_error: str = "replace") -> Sample:
    """``read(0)``, else the first of ``read(1)``, … that is usable. Only the first is noted as ``bad``: each of the others
    is read, and noted, in its own turn. Raises RuntimeError after ``most`` unusable ones, or at once when ``on_error`` is
    ``stop``."""
    reason = ""
    for attempt in range(most):
        try:
            sample = read(attempt)
        except BadImage as error:
            if on_error == "stop":
                raise RuntimeError(
                    f"{place} is unusable: {error}; mend it, or replace it with data.train.on_error=replace"
                ) from error
            reason = reason or error.reason
        else:
            return sample._replace(bad=(reason, place)) if reason else sample
    raise RuntimeError(f"{most} rows one after the other are unusable, from {place} ({reason}) on")


class CaptionDataset(Dataset):
    """Image-caption pairs by row. ``dataset[(epoch, index)]`` gives a Sample that depends on (seed, epoch, index) alone.

    The data set is opened from ``path`` (hub id, local folder or file) or handed over as ``dataset``; ``columns`` are
    CaptionRows' options. Filters are applied once, at the start. Of several captions one is chosen, or each makes a sample
    of its own. A picture or caption that cannot be read is replaced by the next sample's and noted (``on_error``
    ``replace``), or stops the run (``stop``). ``group_column`` tells which rows show the same thing. ``cache_images``
    keeps each picture, decoded and fitted by the evaluation transform, in memory (uint8; each worker has its own) and
    skips the training transform. ``limit`` keeps the first rows only.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        dataset: Any = None,
        split: str | Sequence[str] = "train",
        name: str | None = None,
        revision: str | None = None,
        data_files: DataFiles = None,
        group_column: str | None = None,
        cache_images: bool = False,
        limit: int | None = None,
        on_error: str = "replace",
        credits: Sequence[str] = (),
        **columns: Any,
    ) -> None:
        if on_error not in ("replace", "stop"):
            raise ValueError(f"on_error {on_error!r} must be replace or stop")
        if dataset is None:
            if not path:
                raise ValueError("data.path is not set; give a local folder or a hub id: data.path=…")
            place: dict[str, Any] = {"path": path, "split": split, "name": name, "revision": revision}
            place["data_files"] = data_files
            if not Path(path).expanduser().exists():  # a wrong column is told before gigabytes are fetched
                CaptionRows(columns_of(open_dataset(**place, streaming=True)), path, **columns)
            dataset = open_dataset(**place)
        where = path or "data set"
        if limit is not None:
            dataset = dataset.select(range(min(limit, len(dataset))))
        if len(dataset) == 0:
            raise ValueError(f"{where}: split {split!r} is empty; its columns are {', '.join(dataset.column_names)}")
        self.rows = CaptionRows(dataset.column_names, where, root=folder_of(path), **columns)
        if isinstance(dataset.features[self.rows.image_column], datasets.Image):
            dataset = dataset.cast_column(self.rows.image_column, datasets.Image(decode=False))
        if group_column is not None:
            first_present(dataset.column_names, [group_column], "group", where)
        self.kept, self.which, self.refused = wanted_samples(dataset, self.rows)
        if len(self.kept) == 0:
            raise ValueError(f"{where}: data.train.filters leave none of {len(dataset)} rows: {dict(self.refused)}")
        self.dataset, self.group_column, self.credits = dataset, group_column, tuple(credits)
        self.cache_images, self.on_error = cache_images, on_error
        self.groups = np.asarray(dataset[group_column][:])[self.kept] if group_column else self.kept
        self._cache: dict[int, Tensor] = {}
        self.seed, self.train_transform, self.eval_transform = 0, None, None

    def prepare(self, *, seed: int, train_transform: Any, eval_transform: Any) -> None:
        """Set by the data module: the seed of all draws, and the transforms."""
        self.seed, self.train_transform, self.eval_transform = seed, train_transform, eval_transform

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the captions, the pictures (as far as a sample of them tells), the filters and the choice of
        captions; stays when the same data lie elsewhere."""
        facts = f"{pairs_fingerprint(self.dataset, self.rows)} {self.rows.order_facts} {len(self)}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.kept)

    def row(self, number: int) -> dict[str, Any]:
        """Of the data set, before filters; strings that are no UTF-8 are read as far as they go."""
        try:
            return self.dataset[number]
        except UnicodeDecodeError:
            return to_rows(self.dataset.with_format("arrow")[number : number + 1])[0]

    def _row(self, index: int) -> dict[str, Any]:
        return self.row(int(self.kept[index]))

    def picture(self, index: int) -> Image.Image:
        return decode_image(self.rows.picture(self._row(index)))

    def all_captions(self, index: int) -> list[str]:
        return self.rows.captions(self._row(index))

    def _read(self, epoch: int, index: int) -> Sample:
        rng = sample_rng(self.seed, epoch, index)
        row = self._row(index)
        caption = self.rows.choose(row, int(self.which[index]), rng)
        if self.cache_images:
            if index not in self._cache:
                self._cache[index] = self.eval_transform(decode_image(self.rows.picture(row)))  # type: ignore[misc]
            image = self._cache[index]
        else:
            image = self.train_transform(decode_pixels(self.rows.picture(row)), rng)  # type: ignore[misc]
        return Sample(image, caption, epoch, index, int(self.groups[index]))

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        place, size = f"row {self.kept[index]}", len(self)
        return first_usable(lambda k: self._read(epoch, (index + k) % size), min(size, MOST_BAD), place, self.on_error)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """(epoch, index) of each sample of an epoch, int64 ``[samples, 2]``."""
        order = epoch_permutation(len(self), seed, epoch)
        return np.stack([np.full_like(order, epoch), order], axis=1)


class CaptionPairs:
    """A caption data set as the retrieval evaluator reads it: ``picture(i)``, and all its captions as ``target(i)``."""

    def __init__(self, source: CaptionDataset) -> None:
        self.source, self.credits = source, source.credits

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the pictures and the captions; see ``content_fingerprint``."""
        rows = self.source.rows
        captions = [list(self.source.dataset[column]) for column in rows.caption_columns]
        return content_fingerprint(self.source.dataset, rows.image_column, repr(captions).encode())

    def __len__(self) -> int:
        return len(self.source)

    def picture(self, index: int) -> Image.Image:
        return self._read(self.source.picture, index)

    def target(self, index: int) -> list[str]:
        return self._read(self.source.all_captions, index)

    def _read(self, read: Callable[[int], T], index: int) -> T:
        try:
            return read(index)
        except BadImage as error:
            raise ValueError(f"row {index} of the evaluation pairs cannot be read: {error}; remove it") from error


def caption_pairs(
    *,
    path: str | None,
    split: str = "test",
    name: str | None = None,
    data_files: DataFiles = None,
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
    return CaptionPairs(source)


def stack(samples: Sequence[Sample]) -> Tensor:
    """Written straight into shared memory when a worker does it."""
    return default_collate([s.image for s in samples])
