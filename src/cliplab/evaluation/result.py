"""The result that every evaluator returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cliplab.evaluation.kind import Kind


@dataclass(frozen=True)
class EvaluationResult:
    """``metrics`` are scalars; shares are in [0, 1]. ``details`` are further facts (see ``Details`` and those of each kind).
    ``samples`` is a table with a row for each image, by column. ``seconds`` is the time of each phase.

    The columns of a classification are index, label, rank, top5 and top5_probability. For a retrieval see
    ``retrieval_rows``.
    """

    name: str
    kind: Kind
    metrics: dict[str, float]
    protocol_hash: str
    details: Mapping[str, Any] = field(default_factory=dict)
    samples: dict[str, list[Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def task(self) -> str:
        return self.kind.task

    @property
    def stem(self) -> str:
        """The name of the result's files, without suffix."""
        return self.kind.stem(self.name)
