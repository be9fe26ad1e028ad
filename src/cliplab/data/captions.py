"""Image-caption pairs from any Hugging Face data set, by row or as a stream."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from cliplab.data.hub import first_present, open_dataset
from cliplab.data.images import BadImage, decode_image
from cliplab.data.order import sample_rng
from cliplab.distributed import rank, world_size

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img")
CAPTION_COLUMNS = ("caption", "captions", "text", "txt", "alt_text", "caption_0", "TEXT", "sentences", "sentence")


class Sample(NamedTuple):
    """One training pair: uint8 ``[3, size, size]``, its caption, where it comes from and what it shows."""

    image: Tensor
    caption: str
    epoch: int
    index: int
    group: int


def captions_of(value: Any) -> list[str]:
    """All captions in a cell: a string (one per line), a list of strings, or a list of {"raw": …}."""
    if isinstance(value, bytes):
        value = value.decode("utf8", errors="replace")
    if isinstance(value, str):
        return [line.strip() for line in value.split("\n") if line.strip()] or [""]
    if isinstance(value, Sequence):
        found = [v.get("raw", "") if isinstance(v, dict) else str(v) for v in value if v is not None]
        if found:
            return found
    raise BadImage("no_caption", type(value).__name__)


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
        return [caption for column in self.caption_columns for caption in captions_of(row[column])]


class CaptionDataset(Dataset):
    """Image-caption pairs by row. ``dataset[(epoch, index)]`` gives a Sample that depends on (seed, epoch, index) alone.

    The data set is opened from ``path`` (hub id, local folder or file) or handed over as ``dataset``. Of several captions
    one is drawn. A picture or caption that cannot be read is replaced by the next row and counted in ``bad`` by reason;
    above ``max_bad_fraction`` it raises. ``group_column`` tells which rows show the same thing. ``cache_images`` keeps
    each picture, decoded and fitted by the evaluation transform, in memory (uint8) and skips the training transform.
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
        max_bad_fraction: float = 0.05,
        credits: Sequence[str] = (),
    ) -> None:
        if dataset is None:
            if not path:
                raise ValueError("data.path is not set; give a local folder or a hub id: data.path=…")
            dataset = open_dataset(path=path, split=split, name=name, revision=revision, data_files=data_files)
        where = path or "data set"
        if len(dataset) == 0:
            raise ValueError(f"{where}: split {split!r} is empty")
        self.rows = CaptionRows(dataset.column_names, where, image_columns, caption_columns)
        if isinstance(dataset.features[self.rows.image_column], datasets.Image):
            dataset = dataset.cast_column(self.rows.image_column, datasets.Image(decode=False))
        if group_column is not None:
            first_present(dataset.column_names, [group_column], "group", where)
        self.dataset, self.group_column, self.credits = dataset, group_column, tuple(credits)
        self.max_bad_fraction, self.cache_images = max_bad_fraction, cache_images
        self.groups = np.asarray(dataset[group_column]) if group_column else np.arange(len(dataset))
        self.bad: Counter[str] = Counter()
        self.served = 0
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
        return self.eval_transform(decode_image(row[self.rows.image_column])), self.rows.captions(row)

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
            image = self.train_transform(decode_image(row[self.rows.image_column]), rng)  # type: ignore[misc]
        return Sample(image, caption, epoch, index, int(self.groups[index]))

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        for attempt in range(len(self.dataset)):
            try:
                sample = self._read(epoch, (index + attempt) % len(self.dataset))
                self.served += 1
                return sample
            except BadImage as error:
                self.bad[error.reason] += 1
                seen = self.served + sum(self.bad.values())
                if seen >= 100 and sum(self.bad.values()) > self.max_bad_fraction * seen:
                    raise RuntimeError(
                        f"{sum(self.bad.values())} of {seen} samples are unusable ({dict(self.bad)}), above "
                        f"max_bad_fraction {self.max_bad_fraction}; the last is row {index}"
                    ) from error
        raise RuntimeError(f"not one usable sample in {len(self.dataset)} rows: {dict(self.bad)}")


class CaptionStream(IterableDataset):
    """Image-caption pairs from shards, for what does not fit on disk or in memory.

    Shards are shuffled by epoch and dealt to ranks and workers; a bounded buffer shuffles within. ``samples_per_epoch`` is
    over all ranks: every rank makes the same number of steps and goes round its shards again when they run out.
    """

    def __init__(
        self,
        *,
        path: str,
        samples_per_epoch: int,
        split: str = "train",
        name: str | None = None,
        revision: str | None = None,
        data_files: str | Sequence[str] | None = None,
        image_columns: Sequence[str] = IMAGE_COLUMNS,
        caption_columns: Sequence[str] = CAPTION_COLUMNS,
        shuffle_buffer: int = 1000,
        credits: Sequence[str] = (),
    ) -> None:
        if not path:
            raise ValueError("data.path is not set; give a local folder or a hub id: data.path=…")
        stream = open_dataset(
            path=path, split=split, name=name, revision=revision, data_files=data_files, streaming=True
        )
        columns = stream.column_names or list(next(iter(stream)))
        self.rows = CaptionRows(columns, path, image_columns, caption_columns)
        features = stream.features or {}
        if isinstance(features.get(self.rows.image_column), datasets.Image):
            stream = stream.cast_column(self.rows.image_column, datasets.Image(decode=False))
        self.stream, self.samples_per_epoch, self.shuffle_buffer = stream, samples_per_epoch, shuffle_buffer
        self.fingerprint = hashlib.sha256(f"{path} {name} {revision} {split}".encode()).hexdigest()[:16]
        self.credits, self.bad = tuple(credits), Counter[str]()
        self.seed, self.epoch, self.train_transform = 0, 0, None

    def prepare(self, *, seed: int, train_transform: Any, eval_transform: Any) -> None:
        self.seed, self.train_transform = seed, train_transform

    def __len__(self) -> int:
        return self.samples_per_epoch

    def _shuffled(self, worker: int, workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Endless rows of this worker with a running number, through the buffer."""
        number, rng, turn = worker, sample_rng(self.seed, self.epoch, 2**40 + worker), 0
        buffer: list[dict[str, Any]] = []
        while True:
            order = self.stream.shuffle(seed=self.seed + 1000 * self.epoch + turn, buffer_size=1)
            found = 0
            for i, row in enumerate(order):
                if i % workers != worker:
                    continue
                found += 1
                if len(buffer) < self.shuffle_buffer:
                    buffer.append(row)
                    continue
                slot = int(rng.integers(len(buffer)))
                row, buffer[slot] = buffer[slot], row
                yield number, row
                number += workers
            while buffer and turn >= 0 and found < self.shuffle_buffer:
                yield number, buffer.pop(int(rng.integers(len(buffer))))
                number += workers
            if not found:
                raise RuntimeError("a worker found no row: there are fewer rows than workers times ranks")
            turn += 1

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        per_rank = info.num_workers if info else 1
        worker, workers = rank() * per_rank + (info.id if info else 0), world_size() * per_rank
        for number, row in self._shuffled(worker, workers):
            rng = sample_rng(self.seed, self.epoch, number)
            try:
                captions = self.rows.captions(row)
                image = self.train_transform(decode_image(row[self.rows.image_column]), rng)  # type: ignore[misc]
            except BadImage as error:
                self.bad[error.reason] += 1
                continue
            yield Sample(image, captions[int(rng.integers(len(captions)))], self.epoch, number, number)


class CaptionPairs(Dataset):
    """A caption data set seen by the retrieval evaluator: ``[i]`` gives (uint8 image, captions)."""

    def __init__(self, source: CaptionDataset) -> None:
        self.source, self.fingerprint = source, source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, list[str]]:
        return self.source.pair(index)

    def picture(self, index: int) -> Image.Image:
        return self.source.picture(index)


def stack(samples: Sequence[Sample]) -> Tensor:
    return torch.stack([s.image for s in samples])
