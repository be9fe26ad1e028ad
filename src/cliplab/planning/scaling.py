"""What a step holds and does at other sizes than those that were traced: each count is a polynomial of the batch.

At the peak of a phase, a count is a sum of what does not grow, what grows with a chunk, what grows with the batch, and,
of the logits, its square.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cliplab.planning.step import Traced

MOST = 2**22  # pairs of one device


class Size(NamedTuple):
    """Pairs of one rank, and the chunks in which it encodes them."""

    pairs: int
    chunks: int

    @property
    def terms(self) -> list[float]:
        chunk = [] if self.chunks == 1 else [self.pairs / self.chunks]
        return [1.0, float(self.pairs), float(self.pairs) ** 2, *chunk]


def sizes_to_trace(unit: int, chunks: int) -> list[Size]:
    """As few and as small as determine the polynomials."""
    if chunks == 1:
        return [Size(unit * times, 1) for times in (1, 2, 3)]
    return [Size(unit * times, k) for times, k in ((2, 2), (4, 2), (3, 3), (4, 4))]


class Scaled:
    """The traces of several sizes, by which others are computed."""

    def __init__(self, traced: Mapping[Size, Traced]) -> None:
        self.traced = dict(traced)
        self.any = next(iter(self.traced.values()))
        self.inverse = np.linalg.pinv(np.array([size.terms for size in self.traced]))

    def at(self, size: Size) -> Traced:
        """The trace itself where there is one."""
        if size in self.traced:
            return self.traced[size]
        found = list(self.traced.values())
        peaks = {
            phase: {part: self._at(size, [t.peaks[phase].get(part, 0) for t in found]) for part in _keys(found, phase)}
            for phase in self.any.peaks
        }
        work = {key: self._at(size, [t.work.get(key, 0) for t in found]) for key in self.any.work}
        return self.any._replace(peaks=peaks, work=work)

    def _at(self, size: Size, counts: Sequence[float]) -> float:
        return max(0.0, float(np.array(size.terms) @ self.inverse @ np.array(counts, dtype=float)))


def _keys(found: Sequence[Traced], phase: str) -> list[str]:
    return list(dict.fromkeys(part for traced in found for part in traced.peaks[phase]))


def largest(fits: Callable[[int], bool]) -> int:
    """The most pairs of one rank that fit; 0 where not even one does."""
    low, high = 0, 1
    while high < MOST and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
