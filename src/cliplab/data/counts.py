"""What became of the rows that were read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

MOST_NAMED = 10  # unusable rows named one by one
FEWEST_SEEN = 100  # samples before a share of unusable rows says anything


class Counts:
    """Samples seen (in a mixture by source too), unusable rows by reason with the first ten places, and texts cut."""

    def __init__(
        self,
        seen: int = 0,
        truncated: int = 0,
        bad: Mapping[str, int] | None = None,
        first_bad: Sequence[str] = (),
        sources: Mapping[str, int] | None = None,
    ) -> None:
        self.sources = Counter(sources or {})
        self.seen, self.truncated, self.bad, self.first_bad = seen, truncated, Counter(bad or {}), list(first_bad)

    def add(self, batch: Any) -> None:
        self.bad.update(reason for reason, _ in batch.bad)
        self.first_bad = (self.first_bad + [f"{place}: {reason}" for reason, place in batch.bad])[:MOST_NAMED]
        self.truncated += batch.truncated
        self.sources.update(batch.sources)
        self.seen += len(batch.images)

    def check(self, max_bad_fraction: float, fewest: int = FEWEST_SEEN) -> None:
        """Raises RuntimeError when too many rows are unusable, naming the first; ``fewest`` samples must have been seen."""
        bad = self.bad.total()
        if self.seen >= fewest and bad > max_bad_fraction * self.seen:
            raise RuntimeError(
                f"{bad} of {self.seen} rows are unusable, {dict(self.bad)}: above data.max_bad_fraction "
                f"{max_bad_fraction}; mend the data or raise it. The first: {'; '.join(self.first_bad)}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or another rank; ``Counts(**…)`` makes the same again."""
        plain = {"seen": self.seen, "truncated": self.truncated, "first_bad": list(self.first_bad)}
        return {**plain, "bad": dict(self.bad), "sources": dict(self.sources)}

    @classmethod
    def total(cls, parts: Sequence[Mapping[str, Any]]) -> "Counts":
        bad, sources = (sum((Counter(part[key]) for part in parts), Counter[str]()) for key in ("bad", "sources"))
        first = [place for part in parts for place in part["first_bad"]][:MOST_NAMED]
        return cls(sum(part["seen"] for part in parts), sum(part["truncated"] for part in parts), bad, first, sources)

    def metrics(self) -> dict[str, float]:
        """As they are logged."""
        reasons = {f"data/bad/{reason}": float(count) for reason, count in sorted(self.bad.items())}
        whole = {"data/samples": self.seen, "data/bad": self.bad.total(), "data/truncated_texts": self.truncated}
        sources = {f"data/samples/{name}": float(count) for name, count in sorted(self.sources.items())}
        return {key: float(value) for key, value in whole.items()} | reasons | sources

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.bad.most_common())
        return (
            f"{self.seen} samples read, {self.bad.total()} unusable rows replaced"
            f"{f' ({reasons})' if reasons else ''}, {self.truncated} texts cut"
        )
