"""One evaluation of a model, and the names under which its figures are logged."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from cliplab.evaluation.evaluator import Evaluator
from cliplab.evaluation.model import Tokenizer, ZeroShotModel
from cliplab.evaluation.result import EvaluationResult
from cliplab.models.tokens import Tokens


class EvaluationStopped(Exception):
    """What an evaluation was made for is no longer wanted; nothing of it is kept."""


class StoppableEncoders:
    """A model's towers. Every call first asks ``stopped``, and raises EvaluationStopped when it says so. Every rank makes
    equally many calls, so that they may agree on it."""

    def __init__(self, model: Any, stopped: Callable[[], bool]) -> None:
        self.model, self.stopped, self.text_fixed = model, stopped, bool(model.text_fixed)
        self.logit_scale: Tensor = model.logit_scale
        self.logit_bias: Tensor | None = model.logit_bias

    def _ask(self) -> None:
        if self.stopped():
            raise EvaluationStopped

    def encode_image(self, images: Tensor) -> Tensor:
        self._ask()
        return self.model.encode_image(images)

    def encode_text(self, tokens: Tokens) -> Tensor:
        self._ask()
        return self.model.encode_text(tokens)


def run_evaluator(
    evaluator: Evaluator,
    model: nn.Module,
    tokenizer: Tokenizer,
    device: torch.device,
    precision: AbstractContextManager[Any],
    *,
    thorough: bool,
    most: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> EvaluationResult:
    """Evaluate the model in eval mode, without gradient, in this precision; then restore the mode. For ``thorough`` and
    ``most`` see Evaluator.

    Before each batch every rank asks ``stopped``; where it says so, EvaluationStopped is raised.
    """
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), precision:
            towers = StoppableEncoders(model, stopped)
            return evaluator.evaluate(ZeroShotModel(towers, tokenizer, device), thorough=thorough, most=most)
    finally:
        model.train(training)


def named_metrics(result: EvaluationResult) -> dict[str, float]:
    """The metrics as they are logged: see ``Kind.logged``."""
    return {result.kind.logged(result.name, key): value for key, value in result.metrics.items()}
