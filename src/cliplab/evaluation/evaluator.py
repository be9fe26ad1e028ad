"""The interface of an evaluator, as tasks and callbacks use it."""

from collections.abc import Sequence
from typing import Protocol

from cliplab.evaluation.batches import EvaluationImages, PictureSet
from cliplab.evaluation.kind import Kind
from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.result import EvaluationResult


class Evaluator(Protocol):
    """One way to score one set.

    A ``thorough`` evaluation scores the whole set, and fills what reports show for each image. Any other evaluation may
    score a part of the set: at most ``most`` images, or as many as the options of the set say. ``final_only`` evaluators
    are too slow for every epoch, so they run in thorough evaluations only. ``notes`` are sentences that a reader of the
    figures must know. They are printed before the evaluation and stored with the result.
    """

    name: str
    kind: Kind
    final_only: bool

    @property
    def images(self) -> EvaluationImages[PictureSet]: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def evaluate(self, model: ZeroShotModel, *, thorough: bool = True, most: int | None = None) -> EvaluationResult: ...
