"""What tasks and callbacks ask of an evaluator."""

from collections.abc import Sequence
from typing import Protocol

from cliplab.evaluation.batches import EvaluationImages
from cliplab.evaluation.kind import Kind
from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.result import EvaluationResult


class Evaluator(Protocol):
    """One way to score one set.

    ``evaluate`` scores the whole set when it is ``thorough``, which also fills what reports show per image. Otherwise the
    set may be scored in part: at most ``most`` images, or as many as the set's own options say. ``final_only`` evaluators
    cost too much for every epoch: they are asked for thorough evaluations only. ``notes`` are what a reader of the figures
    must know, told before anything is evaluated and again with the result.
    """

    name: str
    kind: Kind
    final_only: bool
    images: EvaluationImages

    @property
    def notes(self) -> Sequence[str]: ...

    def evaluate(self, model: ZeroShotModel, *, thorough: bool = True, most: int | None = None) -> EvaluationResult: ...
