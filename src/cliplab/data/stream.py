"""Image-caption pairs from shards, for what does not fit on disk or in memory; and the choice between stream and rows."""

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from cliplab.data.captions import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    MOST_BAD,
    CaptionDataset,
    CaptionRows,
    Sample,
    first_usable,
)
from cliplab.data.hub import open_dataset
from cliplab.data.images import decode_pixels
from cliplab.data.order import sample_rng
from cliplab.distributed import rank, world_size

Row = dict[str, Any]
READ_AT_ONCE = 32  # rows asked of the library together; far faster than one by one


def shuffled(rows: Iterable[Row], size: int, rng: np.random.Generator) -> Iterator[Row]:
    """Each row once, in an order drawn through a buffer of at most ``size`` rows."""
    buffer: list[Row] = []
    for row in rows:
        if len(buffer) < size:
            buffer.append(row)
            continue
        slot = int(rng.integers(size))
        buffer[slot], row = row, buffer[slot]
        yield row
    yield from (buffer[i] for i in rng.permutation(len(buffer)))


class CaptionStream(IterableDataset):
    """Image-caption pairs from shards of a hub id or local folder, endless from each epoch's start.

    The shards are put in a new order every epoch and dealt to ranks and workers (rows are, when there are fewer shards);
    a buffer of ``shuffle_buffer`` rows shuffles within. ``samples_per_epoch`` counts over all ranks, each of which makes
    the same number of steps and goes round its share again when it runs out. The order depends on (seed, epoch, ranks,
    workers) alone: rows are replaced, never left out, so a batch can be found again without decoding those before it.
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
        if shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer {shuffle_buffer} must be at least 1, which does not shuffle")
        stream = open_dataset(
            path=path, split=split, name=name, revision=revision, data_files=data_files, streaming=True
        )
        columns = stream.column_names or list(next(iter(stream), {}))
        if not columns:
            raise ValueError(f"{path}: split {split!r} is empty")
        self.rows = CaptionRows(columns, path, image_columns, caption_columns)
        features = stream.features or {}
        if isinstance(features.get(self.rows.image_column), datasets.Image):
            stream = stream.cast_column(self.rows.image_column, datasets.Image(decode=False))
        self.stream, self.samples_per_epoch, self.shuffle_buffer = stream, samples_per_epoch, shuffle_buffer
        facts = f"{path} {name} {revision} {split} {data_files}"
        self.fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:16]
        self.seed, self.train_transform = 0, None
        self.epoch, self.start, self.batch_size = 0, 0, 1

    def prepare(self, *, seed: int, train_transform: Any, eval_transform: Any) -> None:
        """Set by the data module: the seed of all draws, and the transforms."""
        self.seed, self.train_transform = seed, train_transform

    def begin(self, *, epoch: int, start: int, batch_size: int) -> None:
        """Set by the loader: the next iteration gives this rank's batches of ``epoch`` from number ``start`` on."""
        self.epoch, self.start, self.batch_size = epoch, start, batch_size

    def __len__(self) -> int:
        return self.samples_per_epoch

    def _turn(self, turn: int, worker: int, workers: int) -> Iterator[Row]:
        """This worker's rows in one turn through the stream."""
        seed = int(np.random.SeedSequence([self.seed, self.epoch, turn]).generate_state(1)[0])
        # Only the order of the shards is left to the library: its own buffer could not be resumed.
        order = self.stream.shuffle(seed=seed, buffer_size=1, max_buffer_input_shards=1)
        dealt = order.num_shards >= workers
        if dealt:
            order = order.shard(num_shards=workers, index=worker)
        # iter(batch_size), unlike iterating the stream itself, does not deal the shards to workers a second time.
        chunks = order.iter(batch_size=READ_AT_ONCE)
        rows = (dict(zip(chunk, row, strict=True)) for chunk in chunks for row in zip(*chunk.values(), strict=True))
        return rows if dealt else itertools.islice(rows, worker, None, workers)

    def _rows(self, worker: int, workers: int) -> Iterator[Row]:
        """Endless rows of this worker; each of its rows comes once per turn."""
        rng = sample_rng(self.seed, self.epoch, 2**40 + worker)
        for turn in itertools.count():
            row = None
            for row in shuffled(self._turn(turn, worker, workers), self.shuffle_buffer, rng):
                yield row
            if row is None:
                raise RuntimeError(
                    f"worker {worker} of {workers} found no row: the stream has fewer rows than workers times ranks; "
                    "lower data.num_workers"
                )

    def _sample(self, row: Row, number: int) -> Sample:
        rng = sample_rng(self.seed, self.epoch, number)
        captions = self.rows.captions(row)
        caption = captions[int(rng.integers(len(captions)))]
        image = self.train_transform(decode_pixels(row[self.rows.image_column]), rng)  # type: ignore[misc]
        return Sample(image, caption, self.epoch, number, number)

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        own, workers = (info.id, info.num_workers) if info else (0, 1)
        own = (own + self.start) % workers  # the loader asks its first worker for the first batch, whichever that is
        worker, workers_of_all = rank() * workers + own, world_size() * workers
        given = len(range(own, self.start, workers)) * self.batch_size
        rows, ahead = itertools.islice(self._rows(worker, workers_of_all), given, None), deque[Row]()

        def read(attempt: int) -> Sample:
            while len(ahead) <= attempt:
                ahead.append(next(rows))
            return self._sample(ahead[attempt], number)

        for count in itertools.count(given):
            number = worker + count * workers_of_all
            yield first_usable(read, MOST_BAD, f"sample {number} of epoch {self.epoch}")
            ahead.popleft()


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
