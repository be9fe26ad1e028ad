"""Counts of the rows that were read, and the check that not too many of them are unusable."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cliplab.data.layout import DataError

MOST_NAMED = 10  # unusable rows that a message names
FEWEST_SEEN = 100  # samples before the limit is checked; at the end of an epoch fewer suffice
CHANCE = 0.001  # the probability of stopping although no more rows are unusable than the limit allows


def surely_above(bad: int, seen: int, limit: float) -> bool:
    """Whether ``bad`` of ``seen`` random rows show that the share of bad rows is above ``limit``.

    A sequential test: it can be repeated after every row, and is wrong with a probability of at most ``CHANCE`` in all. It
    uses the mean likelihood ratio of shares above the limit to the limit itself. That ratio is a martingale when the share
    is the limit, and a supermartingale when it is below (Ville 1939). Drawing rows without replacement makes it safer.
    """
    if bad <= limit * seen:
        return False
    if limit <= 0:
        return True
    shares = limit + (1 - limit) * np.geomspace(1e-3, 1 - 1e-6, 50)
    log_ratios = bad * np.log(shares / limit) + (seen - bad) * np.log((1 - shares) / (1 - limit))
    return float(np.logaddexp.reduce(log_ratios)) - math.log(len(shares)) > -math.log(CHANCE)


def _row_number(place: str) -> int:
    return int.from_bytes(hashlib.blake2b(place.encode(errors="replace"), digest_size=8).digest(), "big")


class Counts:
    """Counts of samples (also by source in a mixture), of unusable rows by reason, with the first ten, and of cut texts.

    ``bad`` counts a row each time it is read; ``bad_rows`` holds a hash of the place of each distinct one. ``probes`` and
    ``bad_probes`` count the samples that represent the whole source. ``lost`` are rows of damaged files that were never
    read: ``bad`` counts them, ``seen`` does not.
    """

    def __init__(
        self,
        seen: int = 0,
        truncated: int = 0,
        bad: Mapping[str, int] | None = None,
        first_bad: Sequence[str] = (),
        sources: Mapping[str, int] | None = None,
        probes: int = 0,
        bad_probes: int = 0,
        bad_rows: Iterable[int] = (),
        lost: int = 0,
    ) -> None:
        self.sources = Counter(sources or {})
        self.seen, self.truncated, self.bad, self.first_bad = seen, truncated, Counter(bad or {}), list(first_bad)
        self.probes, self.bad_probes, self.bad_rows = probes, bad_probes, set(bad_rows)
        self.lost = lost

    def add(self, batch: Any) -> None:
        self.bad.update(reason for reason, _ in batch.bad)
        for reason, place in batch.bad:
            number = _row_number(place)
            if number not in self.bad_rows and len(self.first_bad) < MOST_NAMED:
                self.first_bad.append(f"{place}: {reason}")
            self.bad_rows.add(number)
        self.truncated += batch.truncated
        self.sources.update(batch.sources)
        self.seen += len(batch.images)
        self.probes += batch.probes
        self.bad_probes += batch.bad_probes
        for reason, rows in batch.lost:
            self.bad[reason] += rows
            self.lost += rows

    def add_lost(self, damaged: Sequence[tuple[str, str]]) -> None:
        """Add rows, as (reason, place), that are lost with their files. They are not replaced by others."""
        self.bad.update(reason for reason, _ in damaged)
        named = [f"{place}: {reason}" for reason, place in damaged]
        self.first_bad = list(dict.fromkeys([*named, *self.first_bad]))[:MOST_NAMED]

    def check(
        self, max_bad_fraction: float, rows: int | None = None, lost: int = 0, *, whole_epoch: bool = False
    ) -> None:
        """Raises DataError, naming the first unusable rows, when more rows are unusable than the limit allows.

        Where the number of ``rows`` is known, that is certain once more than the limit's share of them, with the ``lost``
        ones, were read. Otherwise the rows read so far must show it beyond chance. After a ``whole_epoch`` the check is made
        however few the samples are, and counts all of them, not only probes.
        """
        if self.seen < FEWEST_SEEN and not whole_epoch:
            return
        if rows is not None and len(self.bad_rows) + lost > max_bad_fraction * (rows + lost):
            raise self._above(len(self.bad_rows) + lost, rows + lost, max_bad_fraction)
        of_all = whole_epoch and rows is None
        bad, seen = (self.bad.total(), self.seen + self.lost) if of_all else (self.bad_probes, self.probes)
        if surely_above(bad, seen, max_bad_fraction):
            raise self._above(self.bad.total(), self.seen + self.lost, max_bad_fraction)

    def _above(self, bad: int, rows: int, max_bad_fraction: float) -> DataError:
        share = max(bad / rows, self.bad.total() / (self.seen + self.lost))
        enough = min(1.0, math.ceil(120 * share) / 100)
        return DataError(
            f"{bad} of {rows} rows are unusable ({', '.join(sorted(self.bad))}), more than data.max_bad_fraction="
            f"{max_bad_fraction:g} allows; repair the data, or go on without such rows by data.max_bad_fraction={enough:g}. "
            f"The first: {'; '.join(self.first_bad)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or another rank; ``Counts(**…)`` makes the same again."""
        plain = {"seen": self.seen, "truncated": self.truncated, "first_bad": list(self.first_bad)}
        probes = {"probes": self.probes, "bad_probes": self.bad_probes, "bad_rows": sorted(self.bad_rows)}
        return {**plain, **probes, "lost": self.lost, "bad": dict(self.bad), "sources": dict(self.sources)}

    @classmethod
    def total(cls, parts: Sequence[Mapping[str, Any]]) -> "Counts":
        """The sum over several ranks, from their ``as_dict()``."""
        counts = [cls(**part) for part in parts]
        return cls(
            seen=sum(one.seen for one in counts),
            truncated=sum(one.truncated for one in counts),
            bad=sum((one.bad for one in counts), Counter[str]()),
            first_bad=list(dict.fromkeys(place for one in counts for place in one.first_bad))[:MOST_NAMED],
            sources=sum((one.sources for one in counts), Counter[str]()),
            probes=sum(one.probes for one in counts),
            bad_probes=sum(one.bad_probes for one in counts),
            lost=sum(one.lost for one in counts),
            bad_rows=set().union(*(one.bad_rows for one in counts)),
        )

    def metrics(self) -> dict[str, float]:
        """The figures that are logged."""
        reasons = {f"data/bad/{reason}": float(count) for reason, count in sorted(self.bad.items())}
        whole = {"data/samples": self.seen, "data/bad": self.bad.total(), "data/truncated_texts": self.truncated}
        sources = {f"data/samples/{name}": float(count) for name, count in sorted(self.sources.items())}
        return {key: float(value) for key, value in whole.items()} | reasons | sources

    def __str__(self) -> str:
        text = f"{self.seen} samples read, {self.bad.total() - self.lost} unusable rows replaced"
        if self.lost:
            text += f", {self.lost} lost with damaged files"
        if self.bad:
            text += f" ({', '.join(f'{count} {reason}' for reason, count in self.bad.most_common())})"
        text += f", {self.truncated} texts cut"
        if self.first_bad:
            text += f"; the first: {'; '.join(self.first_bad[:3])}"
        return text
