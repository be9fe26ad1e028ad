"""The rows of a stream before they become samples: shuffled through a buffer, read forward only."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from cliplab.data.layout import DataError, Row


class StreamRow(NamedTuple):
    """A row before it becomes a sample.

    ``which`` is the number of its caption, where each caption is a sample of its own. ``source`` is its number in a mixture.
    ``probe`` is explained at ``Sample``. ``unusable`` is the reason why it cannot be used, where that is known already.
    """

    row: Row
    which: int = 0
    source: int = 0
    probe: bool = False
    unusable: str = ""
    lost: int = 0  # rows that are lost after an unusable one


class RowsInTurn(Protocol):
    """Endless rows of one part of a stream. ``held`` are the rows in memory."""

    @property
    def held(self) -> Sequence[StreamRow]: ...

    def __next__(self) -> StreamRow: ...


class ShuffleBuffer:
    """Endless rows, shuffled through a buffer of at most ``size`` rows. Each row of a turn comes once, turn after turn.

    Raises DataError with the message ``empty`` when a turn has no rows.
    """

    def __init__(
        self, turn: Callable[[int], Iterator[StreamRow]], size: int, rng: np.random.Generator, empty: str
    ) -> None:
        self.turn, self.size, self.rng, self.empty = turn, size, rng, empty
        self.held: list[StreamRow] = []
        self._rows = self._endless()

    def __next__(self) -> StreamRow:
        return next(self._rows)

    def _endless(self) -> Iterator[StreamRow]:
        for turn in itertools.count():
            self.held = []
            yield from self._shuffled(self.turn(turn))
            if not self.held:
                raise DataError(self.empty)

    def _shuffled(self, rows: Iterator[StreamRow]) -> Iterator[StreamRow]:
        for row in rows:
            if len(self.held) < self.size:
                self.held.append(row)
                continue
            slot = int(self.rng.integers(self.size))
            self.held[slot], row = row, self.held[slot]
            yield row
        yield from (self.held[i] for i in self.rng.permutation(len(self.held)))


class Cursor:
    """Reads rows by position, forward only. The last one can be read again."""

    def __init__(self, rows: RowsInTurn) -> None:
        self.rows, self.read = rows, 0
        self.last: StreamRow | None = None

    def row(self, position: int) -> StreamRow:
        while self.read <= position:
            self.last, self.read = next(self.rows), self.read + 1
        assert self.last is not None
        return self.last
