"""Image-caption pairs from shards, for what does not fit on disk or in memory; and the choice between stream and rows."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import torch.utils.data._utils.worker as torch_worker
from torch.utils.data import IterableDataset, get_worker_info

from cliplab.data.captions import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    MOST_SKIPPED,
    CaptionDataset,
    CaptionRows,
    Sample,
    too_many_skipped,
)
from cliplab.data.hub import open_dataset
from cliplab.data.images import BadImage, decode_image
from cliplab.data.order import sample_rng
from cliplab.distributed import rank, world_size

Row = dict[str, Any]


class CaptionStream(IterableDataset):
    """Image-caption pairs from shards of a hub id or local folder, endless from each epoch's start.

    The shards are put in a new order every epoch and dealt to ranks and workers (rows are, when there are fewer shards);
    a bounded buffer shuffles within. ``samples_per_epoch`` counts over all ranks, each of which makes the same number of
    steps and goes round its share again when it runs out. The order depends on (seed, epoch, ranks times workers) alone.
    """

    def __init__(
        self,
        *,
        path: str | None,
        samples_per_epoch: int | None,
        split: str = "train",
        name: str | None = None,
        revision: str | None = None,
        data_files: str | Sequence[str] | None = None,
        image_columns: Sequence[str] = IMAGE_COLUMNS,
        caption_columns: Sequence[str] = CAPTION_COLUMNS,
        shuffle_buffer: int = 1000,
    ) -> None:
        if not path:
            raise ValueError("data.path is not set; give a local folder or a hub id: data.path=…")
        if not samples_per_epoch:
            raise ValueError(
                "data.samples_per_epoch is not set: a stream has no length; say how many samples, over all ranks, "
                "make an epoch"
            )
        stream = open_dataset(
            path=path, split=split, name=name, revision=revision, data_files=data_files, streaming=True
        )
        columns = stream.column_names or list(next(iter(stream)))
        self.rows = CaptionRows(columns, path, image_columns, caption_columns)
        features = stream.features or {}
        if isinstance(features.get(self.rows.image_column), datasets.Image):
            stream = stream.cast_column(self.rows.image_column, datasets.Image(decode=False))
        self.stream, self.samples_per_epoch, self.shuffle_buffer = stream, samples_per_epoch, shuffle_buffer
        facts = f"{path} {name} {revision} {split} {data_files}"
        self.fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:16]
        self.seed, self.epoch, self.train_transform = 0, 0, None

    def prepare(self, *, seed: int, train_transform: Any, eval_transform: Any) -> None:
        """Set by the data module: the seed of all draws, and the transforms."""
        self.seed, self.train_transform = seed, train_transform

    def __len__(self) -> int:
        return self.samples_per_epoch

    def _share(self, turn: int, worker: int, workers: int) -> Iterator[Row]:
        """This worker's rows in one turn through the stream."""
        seed = int(np.random.SeedSequence([self.seed, self.epoch, turn]).generate_state(1)[0])
        # Only the order of the shards is left to the library: its own buffer could not be resumed.
        order = self.stream.shuffle(seed=seed, buffer_size=1, max_buffer_input_shards=1)
        if order.num_shards >= workers:
            return iter(order.shard(num_shards=workers, index=worker))
        return itertools.islice(order, worker, None, workers)

    def _shuffled(self, worker: int, workers: int) -> Iterator[Row]:
        """Endless rows of this worker; each of its rows comes once per turn."""
        rng = sample_rng(self.seed, self.epoch, 2**40 + worker)
        for turn in itertools.count():
            buffer: list[Row] = []
            for row in self._share(turn, worker, workers):
                if len(buffer) < self.shuffle_buffer:
                    buffer.append(row)
                    continue
                slot = int(rng.integers(len(buffer)))
                row, buffer[slot] = buffer[slot], row
                yield row
            if not buffer:
                raise RuntimeError(
                    f"worker {worker} of {workers} found no row: the stream has fewer rows than workers times ranks; "
                    "lower data.num_workers"
                )
            yield from (buffer[i] for i in rng.permutation(len(buffer)))

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        torch_worker._worker_info = None  # the library would deal shards to workers a second time
        per_rank = info.num_workers if info else 1
        worker, workers = rank() * per_rank + (info.id if info else 0), world_size() * per_rank
        skipped: list[str] = []
        for count, row in enumerate(self._shuffled(worker, workers)):
            number = worker + count * workers
            rng = sample_rng(self.seed, self.epoch, number)
            try:
                captions = self.rows.captions(row)
                image = self.train_transform(decode_image(row[self.rows.image_column]), rng)  # type: ignore[misc]
            except BadImage as error:
                skipped.append(error.reason)
                if len(skipped) == MOST_SKIPPED:
                    raise too_many_skipped(skipped, f"sample {number}") from error
                continue
            caption = captions[int(rng.integers(len(captions)))]
            yield Sample(image, caption, self.epoch, number, number, tuple(skipped))
            skipped = []


def caption_source(
    *,
    path: str | None = None,
    dataset: Any = None,
    streaming: bool = False,
    samples_per_epoch: int | None = None,
    shuffle_buffer: int = 1000,
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
    return CaptionStream(**where, **columns, samples_per_epoch=samples_per_epoch, shuffle_buffer=shuffle_buffer)  # type: ignore[arg-type]
