"""What every evaluator returns."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from cliplab.models.tokens import Tokens


class Encoders(Protocol):
    """All that evaluation asks of a model."""

    def encode_image(self, images: Tensor) -> Tensor: ...
    def encode_text(self, tokens: Tokens) -> Tensor: ...


@dataclass(frozen=True)
class EvaluationResult:
    """``metrics`` are scalars (shares in [0, 1]); ``details`` per class; ``samples`` equal-length columns per image."""

    name: str
    task: str
    metrics: dict[str, float]
    protocol_hash: str
    details: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, list[Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
