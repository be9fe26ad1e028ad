"""What every evaluator returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cliplab.evaluation.kind import Kind


@dataclass(frozen=True)
class EvaluationResult:
    """``metrics`` are scalars (shares in [0, 1]); ``details`` what the kind tells beside them (see ``Details`` and those of
    each kind); ``samples`` equal-length columns with a row per image; ``seconds`` per phase.

    ``samples`` of a classification: index, label, rank, top5, top5_probability; of a retrieval see ``retrieval_rows``.
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
        """What the result's files are called."""
        return self.kind.stem(self.name)
