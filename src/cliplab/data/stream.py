"""Image-caption pairs streamed from shards, for data sets that do not fit on disk or in memory."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from cliplab.data.images import BadImage, decode_pixels
from cliplab.data.layout import DamagedPart, Layout, Row, Unusable
from cliplab.data.loader import StreamBatches
from cliplab.data.local import folder_of
from cliplab.data.opening import Location
from cliplab.data.order import sample_rng
from cliplab.data.retry import persistent
from cliplab.data.rows import CaptionRows, RowSettings
from cliplab.data.source import (
    DRAWS,
    STAND_INS,
    EvaluationTransform,
    Sample,
    TrainingTransform,
    first_usable,
)
from cliplab.data.stream_rows import Cursor, RowsInTurn, ShuffleBuffer, StreamRow
from cliplab.distributed import rank, world_size
from cliplab.rules import Count

BUFFER_DRAWS = 8  # rows in memory that are tried for an unusable row, before others are read
FURTHEST = 16  # in a part of unknown length a replacement is drawn among the first 2 ** 0 to 2 ** 15 rows
PROBED = 64  # rows at the start of a part, one of which represents the part


class StreamSource(IterableDataset):
    """The base of a stream and of a mixture of streams: lanes, parts, and samples in an exact order."""

    damaged: Sequence[Unusable] = ()
    path: str
    on_error: str

    def __init__(self, samples_per_epoch: int | None, lanes: int | None) -> None:
        self.samples_per_epoch, self.lanes, self.sized = samples_per_epoch, lanes, bool(samples_per_epoch)
        self.seed, self.epoch, self.batches, self.batch_size = 0, 0, range(0), 1

    @property
    def parts(self) -> int:
        """The number of parts of a lane."""
        raise NotImplementedError

    def rows_in_turn(self, number: int, count: int) -> RowsInTurn:
        """Endless rows of part ``number`` of ``count``. Each of its rows comes once per turn."""
        raise NotImplementedError

    def sample(self, row: StreamRow, number: int, rng: np.random.Generator) -> Sample:
        """The sample of a row. Raises BadImage."""
        raise NotImplementedError

    def rng(self, row: StreamRow, number: int) -> np.random.Generator:
        """The random generator of sample ``number`` when it is made from ``row``."""
        return sample_rng(self.seed, self.epoch, number)

    def draw(self, source: int, rng: np.random.Generator) -> StreamRow | None:
        """A random row of a source. None when there is no row at the place that was drawn."""
        raise NotImplementedError

    def place(self, row: StreamRow) -> str:
        """The place of a row, for messages."""
        return row.row.place

    def set_samples_per_epoch(self, samples: int) -> None:
        self.samples_per_epoch = samples

    def batch_reader(self, *, collate: Callable, batch_size: int, num_workers: int, seed: int) -> StreamBatches:
        return StreamBatches(self, collate=collate, batch_size=batch_size, num_workers=num_workers)

    def begin(self, *, epoch: int, batches: range, batch_size: int) -> None:
        """Let the next iteration give this rank's share of these global batches of ``epoch``."""
        self.lanes = self.lanes or world_size()
        if batch_size % self.lanes:
            raise ValueError(f"data.batch_size {batch_size} is not a multiple of the stream's {self.lanes} lanes")
        self.epoch, self.batches, self.batch_size = epoch, batches, batch_size

    def __len__(self) -> int:
        """Samples in an epoch, over all ranks. Raises ValueError when the number is not set."""
        if not self.samples_per_epoch:
            raise ValueError(
                "a stream has no length: set the length of an epoch, data.samples_per_epoch=<samples over all ranks>, or "
                "of the training, trainer.max_steps=<steps>"
            )
        return self.samples_per_epoch

    def __iter__(self) -> Iterator[Sample]:
        """The samples of every n-th batch: a loader asks its n workers in turn."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        lanes, parts = self.lanes or 1, self.parts
        per_lane, share = self.batch_size // lanes, self.batch_size // world_size()
        opened: dict[int, Cursor] = {}
        for batch in self.batches[worker::workers]:
            for slot in range(rank() * share, (rank() + 1) * share):
                lane, place = divmod(slot, per_lane)
                number = lane * parts + batch % parts
                if number not in opened:
                    opened[number] = Cursor(self.rows_in_turn(number, lanes * parts))
                row = opened[number].row(batch // parts * per_lane + place)
                attempts = self._attempts(row, opened[number].rows, batch * self.batch_size + slot)
                sample = first_usable(attempts, functools.partial(self.place, row), self.on_error)
                yield sample._replace(probe=row.probe, lost=row.lost)

    def _attempts(self, row: StreamRow, rows: RowsInTurn, number: int) -> Iterator[Callable[[], Sample]]:
        """The row itself, then some rows in memory, then random rows of the whole source."""
        yield functools.partial(self.sample, row, number, self.rng(row, number))
        rng, held = self.rng(row, STAND_INS + number), rows.held
        for _ in range(BUFFER_DRAWS):
            yield functools.partial(self.sample, held[int(rng.integers(len(held)))], number, rng)
        for _ in range(DRAWS):
            drawn = self.draw(row.source, rng)
            if drawn is not None:
                yield functools.partial(self.sample, drawn, number, rng)


@dataclass(frozen=True, kw_only=True)
class StreamSettings(RowSettings):
    """How a data set is streamed; the keys are explained at CaptionStream. Raises ValueError for a number below 1."""

    samples_per_epoch: Count | None = None
    shuffle_buffer: Count = 6000
    parts: Count = 12
    lanes: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, value in (("shuffle_buffer", self.shuffle_buffer), ("parts", self.parts), ("lanes", self.lanes or 1)):
            if value < 1:
                raise ValueError(f"data.train.{key} {value} must be at least 1")


class CaptionStream(StreamSource):
    """Image-caption pairs from the parts of a layout.

    The parts get a new order each epoch. They are divided among ``lanes`` (None: one per rank), and within a lane among up
    to ``parts``. Each lane gives an equal share of every global batch, from its parts in turn. The order depends on (seed,
    epoch, lanes, parts) alone, never on the number of workers. A number of workers that divides ``parts`` reads no row
    twice. Where the layout has fewer parts than there are lanes, its rows are divided instead.

    ``shuffle_buffer`` is the number of rows of a lane that wait in memory to be shuffled. ``samples_per_epoch`` counts over
    all ranks. All ranks make the same number of steps, and a part that runs out starts again. Unusable rows are replaced,
    never left out, so a batch can be found again without decoding the ones before it. Raises ValueError when a column is
    missing, DataError when the source stays unreachable.
    """

    def __init__(self, layout: Layout, location: Location, settings: StreamSettings) -> None:
        super().__init__(settings.samples_per_epoch, settings.lanes)
        self.layout, self.location, self.path = layout, location, location.where
        self.rows = CaptionRows(layout.columns, self.path, settings, folder_of(self.path))
        self.shuffle_buffer, self.most_parts = settings.shuffle_buffer, settings.parts
        self.on_error = settings.on_error
        self.train_transform: TrainingTransform | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        where = f"{self.location.name} {self.location.split} {self.layout.fingerprint}"
        facts = f"{where} {self.most_parts} {self.shuffle_buffer} {self.rows.order_facts}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def prepare(
        self, *, seed: int, train_transform: TrainingTransform, eval_transform: EvaluationTransform | None
    ) -> None:
        self.seed, self.train_transform = seed, train_transform

    @property
    def parts(self) -> int:
        """A divisor of the setting ``parts``, such that each part gets at least one part of the layout."""
        most = len(self.layout.parts) // (self.lanes or 1)
        return max(n for n in range(1, self.most_parts + 1) if self.most_parts % n == 0 and n <= max(1, most))

    @functools.cached_property
    def total_rows(self) -> int | None:
        counts = [part.rows for part in self.layout.parts]
        return None if None in counts else sum(counts)  # type: ignore[arg-type]

    @property
    def row_count(self) -> int | None:
        return None if self.rows.needed_to_choose else self.total_rows

    def raw_rows(self, start: int = 0) -> Iterator[Row | Unusable]:
        """The rows in the order of the layout and before filters, from row ``start`` on. Rows that a damaged part has lost
        come where it ends."""
        for number, part in enumerate(self.layout.parts):
            if part.rows is not None and part.rows <= start:
                start -= part.rows
                continue
            known = part.rows is not None
            for row in self._with_lost(number, start if known else 0):
                if known or start == 0:
                    yield row
                else:
                    start -= 1
            start = 0 if known else start

    def _with_lost(self, part: int, start: int) -> Iterator[Row | Unusable]:
        try:
            yield from self.layout.rows(part, start)
        except DamagedPart as error:
            yield from [Unusable(error.reason, error.place)] * error.lost

    def _share(self, turn: int, number: int, count: int) -> tuple[list[int], int, int]:
        """The parts of the layout that part ``number`` of ``count`` reads in a turn, in order, and which of their rows: the
        first, and the step from one to the next."""
        order = list(range(len(self.layout.parts)))
        seed = int(np.random.SeedSequence([self.seed, self.epoch, turn]).generate_state(1)[0])
        np.random.default_rng(seed).shuffle(order)
        if len(order) < count:
            return order, number, count
        size, remainder = divmod(len(order), count)
        first = size * number + min(number, remainder)
        return order[first : first + size + (number < remainder)], 0, 1

    def _part(self, part: int) -> Iterator[StreamRow]:
        """Rows of a part of the layout. Where it is damaged, one last unusable row represents those that are lost."""
        try:
            for row in persistent(lambda start: self.layout.rows(part, start), self.path):
                yield StreamRow(row)
        except DamagedPart as error:
            yield StreamRow(Row({}, error.place), unusable=error.reason, lost=error.lost - 1)

    def _turn(self, turn: int, number: int, count: int) -> Iterator[StreamRow]:
        """The rows of part ``number`` of ``count`` in one turn through the layout."""
        parts, offset, step = self._share(turn, number, count)
        position = -1
        for part in parts:
            given, probe = 0, self._probe(turn, part) if offset == 0 else -1
            for row in self._part(part):
                position += 1
                if position % step != offset or (not row.unusable and self._unwanted(row)):
                    continue
                samples = self.rows.count(row.row.values) if self.rows.choice == "all" and not row.unusable else 1
                for which in range(samples):
                    # An unusable row represents the whole remainder of its part.
                    is_probe = given <= probe if row.unusable else given == probe
                    yield row._replace(which=which, probe=is_probe)
                    given += 1

    def _unwanted(self, row: StreamRow) -> bool:
        return bool(self.rows.needed_to_choose and self.rows.refused(row.row.values))

    def _probe(self, turn: int, part: int) -> int:
        """Which row of a part represents the part. It is a random one: the first row may be broken in every part."""
        rng = np.random.default_rng([self.seed, self.epoch, turn, part])
        return int(rng.integers(min(self.layout.parts[part].rows or PROBED, PROBED)))

    def rows_in_turn(self, number: int, count: int) -> RowsInTurn:
        return ShuffleBuffer(
            lambda turn: self._turn(turn, number, count),
            size=max(1, self.shuffle_buffer // self.parts),
            rng=sample_rng(self.seed, self.epoch, 2**40 + number),
            empty=f"{self.path}: part {number} of {count} has no row: the stream has fewer rows than lanes times parts, or "
            "filters leave none; lower data.train.parts",
        )

    def sample(self, row: StreamRow, number: int, rng: np.random.Generator) -> Sample:
        if row.unusable:
            raise BadImage(row.unusable)
        values = row.row.values
        caption = self.rows.choose(values, row.which, rng)
        assert self.train_transform is not None
        image = self.train_transform(decode_pixels(self.rows.picture(values)), rng)
        return Sample(image, caption, self.epoch, number, number)

    def draw(self, source: int, rng: np.random.Generator) -> StreamRow | None:
        part, start = self._anywhere(rng)
        try:
            row = next(persistent(lambda given: self.layout.rows(part, start + given), self.path), None)
        except DamagedPart:
            return None
        if row is None or self._unwanted(StreamRow(row)):
            return None
        which = int(rng.integers(self.rows.count(row.values))) if self.rows.choice == "all" else 0
        return StreamRow(row, which, source)

    def _anywhere(self, rng: np.random.Generator) -> tuple[int, int]:
        """A random part of the layout and a random row of it. Where lengths are unknown, the row may be beyond the end."""
        if self.total_rows:
            ends = np.cumsum([part.rows for part in self.layout.parts])
            number = int(rng.integers(self.total_rows))
            part = int(np.searchsorted(ends, number, side="right"))
            return part, number - int(ends[part] - self.layout.parts[part].rows)
        return int(rng.integers(len(self.layout.parts))), int(rng.integers(2 ** int(rng.integers(FURTHEST))))
