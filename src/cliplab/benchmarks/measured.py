"""What a benchmark returns."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Measured(NamedTuple):
    """A table whose rows have the same keys, a sentence, and further facts."""

    rows: Sequence[dict[str, Any]]
    summary: str
    facts: dict[str, Any]
