"""Image-caption pairs from shards, for what does not fit on disk or in memory."""

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from cliplab.data.captions import MOST_BAD, Sample, first_usable
from cliplab.data.hub import DataFiles, columns_of, files_fingerprint, folder_of, open_dataset
from cliplab.data.images import decode_pixels
from cliplab.data.order import sample_rng
from cliplab.data.rows import CaptionRows
from cliplab.distributed import rank, world_size

Row = tuple[dict[str, Any], int]  # and which of its captions, where each is a sample of its own
READ_AT_ONCE = 32  # rows asked of the library together; far faster than one by one
RETRY_SECONDS = (1, 2, 4, 8, 16, 32)  # waits before a source that fails is asked again


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


def persistent(start: Callable[[], Iterator[Row]], where: str) -> Iterator[Row]:
    """The rows of ``start()``. When reading fails it begins again, after longer and longer waits, behind the last row given.

    Raises RuntimeError when it keeps failing at the same row.
    """
    given = failures = 0
    while True:
        try:
            for row in itertools.islice(start(), given, None):
                yield row
                given, failures = given + 1, 0
            return
        except Exception as error:
            if failures == len(RETRY_SECONDS):
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                raise RuntimeError(
                    f"{where} cannot be read any more, after {failures} more attempts: {reason}"
                ) from error
            time.sleep(RETRY_SECONDS[failures])
            failures += 1


class _Part:
    """The endless rows of one part of a stream: forward only, with a look ahead."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self.rows, self.position, self.ahead = rows, 0, deque[Row]()

    def seek(self, position: int) -> None:
        while self.position < position:
            if self.ahead:
                self.ahead.popleft()
            else:
                next(self.rows)
            self.position += 1

    def peek(self, further: int) -> Row:
        while len(self.ahead) <= further:
            self.ahead.append(next(self.rows))
        return self.ahead[further]


class CaptionStream(IterableDataset):
    """Image-caption pairs from shards of a hub id or local folder.

    The shards are put in a new order every epoch and dealt to ``lanes`` (null: one per rank), and in each lane to up to
    ``parts``. Each of the lanes gives an equal share of every global batch, from its parts in turn. So the order depends
    on (seed, epoch, lanes, parts) alone and never on the number of workers; one that divides the parts reads nothing in
    vain. Where there are fewer shards than lanes, the rows are dealt instead.

    ``shuffle_buffer`` rows of a lane, over all its parts, wait in memory to be shuffled. ``samples_per_epoch`` counts
    over all ranks, which make the same number of steps; a part goes round again when it runs out. Unusable rows are
    replaced, never left out, so a batch can be found again without decoding those before it. Raises RuntimeError when the
    source stays away.
    """

    def __init__(
        self,
        *,
        path: str | None,
        samples_per_epoch: int | None = None,
        split: str | Sequence[str] = "train",
        name: str | None = None,
        revision: str | None = None,
        data_files: DataFiles = None,
        shuffle_buffer: int = 6000,
        parts: int = 12,
        lanes: int | None = None,
        on_error: str = "replace",
        **columns: Any,
    ) -> None:
        if not path:
            raise ValueError("data.path is not set; give a local folder or a hub id: data.path=…")
        for key, value in (("shuffle_buffer", shuffle_buffer), ("parts", parts), ("lanes", lanes or 1)):
            if value < 1:
                raise ValueError(f"data.{key} {value} must be at least 1")
        where: dict[str, Any] = {
            "path": path,
            "split": split,
            "name": name,
            "revision": revision,
            "data_files": data_files,
        }
        stream = open_dataset(**where, streaming=True)
        found = columns_of(stream)
        if not found:
            raise ValueError(f"{path}: split {split!r} is empty")
        self.rows = CaptionRows(found, path, root=folder_of(path), **columns)
        features = stream.features or {}
        if isinstance(features.get(self.rows.image_column), datasets.Image):
            stream = stream.cast_column(self.rows.image_column, datasets.Image(decode=False))
        self.stream, self.samples_per_epoch, self.path = stream, samples_per_epoch, path
        self.shuffle_buffer, self.most_parts, self.lanes, self.on_error = shuffle_buffer, parts, lanes, on_error
        facts = f"{name} {split} {files_fingerprint(**where)} {parts} {shuffle_buffer} {self.rows.order_facts}"
        self.fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:16]
        self.seed, self.train_transform = 0, None
        self.epoch, self.batches, self.batch_size = 0, range(0), 1

    def prepare(self, *, seed: int, train_transform: Any, eval_transform: Any) -> None:
        """Set by the data module: the seed of all draws, and the transforms."""
        self.seed, self.train_transform = seed, train_transform

    def begin(self, *, epoch: int, batches: range, batch_size: int) -> None:
        """Set by the loader: the next iteration gives this rank's share of these global batches of ``epoch``."""
        self.lanes = self.lanes or world_size()
        if batch_size % self.lanes:
            raise ValueError(f"data.batch_size {batch_size} is no multiple of the stream's {self.lanes} lanes")
        self.epoch, self.batches, self.batch_size = epoch, batches, batch_size

    def __len__(self) -> int:
        """Samples an epoch, over all ranks. Raises ValueError when nobody said how many."""
        if not self.samples_per_epoch:
            raise ValueError(
                "a stream has no length: say what makes an epoch, data.samples_per_epoch=<samples over all ranks>, or "
                "how long to train, trainer.max_steps=<steps>"
            )
        return self.samples_per_epoch

    @property
    def parts(self) -> int:
        """Parts of a lane: a divisor of those asked for, so that all have a shard."""
        most = self.stream.num_shards // (self.lanes or 1)
        return max(n for n in range(1, self.most_parts + 1) if self.most_parts % n == 0 and n <= max(1, most))

    def _turn(self, turn: int, number: int, count: int) -> Iterator[Row]:
        """The rows of part ``number`` of ``count`` in one turn through the stream."""
        seed = int(np.random.SeedSequence([self.seed, self.epoch, turn]).generate_state(1)[0])
        # Only the order of the shards is left to the library: its own buffer could not be resumed.
        order = self.stream.shuffle(seed=seed, buffer_size=1, max_buffer_input_shards=1)
        dealt = order.num_shards >= count
        if dealt:
            order = order.shard(num_shards=count, index=number)
        # iter(batch_size), unlike iterating the stream itself, does not deal the shards to workers a second time.
        chunks = order.iter(batch_size=READ_AT_ONCE)
        rows: Iterator[Any] = (
            dict(zip(chunk, row, strict=True)) for chunk in chunks for row in zip(*chunk.values(), strict=True)
        )
        rows = rows if dealt else itertools.islice(rows, number, None, count)
        rows = (row for row in rows if not self.rows.refused(row)) if self.rows.needed_to_choose else rows
        if self.rows.choice == "all":
            return ((row, which) for row in rows for which in range(self.rows.count(row)))
        return ((row, 0) for row in rows)

    def _rows(self, number: int, count: int) -> Iterator[Row]:
        """Endless rows of one part; each of its rows comes once per turn."""
        rng = sample_rng(self.seed, self.epoch, 2**40 + number)
        size = max(1, self.shuffle_buffer // self.parts)
        for turn in itertools.count():
            row = None
            rows = persistent(lambda turn=turn: self._turn(turn, number, count), self.path)  # type: ignore[misc]
            for row in shuffled(rows, size, rng):
                yield row
            if row is None:
                raise RuntimeError(
                    f"{self.path}: part {number} of {count} has no row: the stream has fewer rows than lanes times "
                    "parts, or filters leave none; lower data.train.parts"
                )

    def _sample(self, row: Row, number: int) -> Sample:
        rng = sample_rng(self.seed, self.epoch, number)
        caption = self.rows.choose(*row, rng)
        image = self.train_transform(decode_pixels(self.rows.picture(row[0])), rng)  # type: ignore[misc]
        return Sample(image, caption, self.epoch, number, number)

    def __iter__(self) -> Iterator[Sample]:
        """The samples of every n-th batch, as the loader asks its n workers in turn."""
        info = get_worker_info()
        own, workers = (info.id, info.num_workers) if info else (0, 1)
        lanes, parts = self.lanes or 1, self.parts
        per_lane, share = self.batch_size // lanes, self.batch_size // world_size()
        opened: dict[int, _Part] = {}
        for batch in self.batches[own::workers]:
            for slot in range(rank() * share, (rank() + 1) * share):
                lane, place = divmod(slot, per_lane)
                number = lane * parts + batch % parts
                if number not in opened:
                    opened[number] = _Part(self._rows(number, lanes * parts))
                part, sample = opened[number], batch * self.batch_size + slot
                part.seek(batch // parts * per_lane + place)

                def read(further: int, part: _Part = part, sample: int = sample) -> Sample:
                    return self._sample(part.peek(further), sample)

                yield first_usable(read, MOST_BAD, f"sample {sample} of epoch {self.epoch}", self.on_error)
