"""Run one evaluation of a model, and name its metrics as they are logged."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from cliplab.distributed import is_sharded
from cliplab.evaluation.evaluator import Evaluator
from cliplab.evaluation.model import Encoders, EncodersWithMode, Features, Score, Tokenizer, Write, ZeroShotModel
from cliplab.evaluation.result import EvaluationResult
from cliplab.models.tokens import Tokens

P = ParamSpec("P")
R = TypeVar("R")


class EvaluationStopped(Exception):
    """An evaluation was stopped. Nothing of it is kept."""


class StoppableEncoders:
    """The towers of a model. Every call asks ``stopped`` first, and raises EvaluationStopped when it returns True.

    Every rank makes the same number of calls, so that ``stopped`` may let the ranks agree."""

    def __init__(self, model: Encoders, stopped: Callable[[], bool]) -> None:
        self.model, self.stopped, self.text_fixed = model, stopped, bool(model.text_fixed)
        self.logit_scale: Tensor = model.logit_scale
        self.logit_bias: Tensor | None = model.logit_bias

    def _raise_if_stopped(self) -> None:
        if self.stopped():
            raise EvaluationStopped

    def encode_image(self, images: Tensor) -> Tensor:
        self._raise_if_stopped()
        return self.model.encode_image(images)

    def encode_text(self, tokens: Tokens) -> Tensor:
        self._raise_if_stopped()
        return self.model.encode_text(tokens)


def _stoppable(work: Callable[P, R] | None, stopped: Callable[[], bool]) -> Callable[P, R] | None:
    if work is None:
        return None

    def asking(*arguments: P.args, **named: P.kwargs) -> R:
        if stopped():
            raise EvaluationStopped
        return work(*arguments, **named)

    return asking


def run_evaluator(
    evaluator: Evaluator,
    model: EncodersWithMode,
    tokenizer: Tokenizer,
    device: torch.device,
    precision: AbstractContextManager[Any],
    *,
    thorough: bool,
    most: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
    score: Score | None = None,
    write: Write | None = None,
    features: Features | None = None,
) -> EvaluationResult:
    """Evaluate the model in eval mode, without gradients, in this precision. The mode is restored afterwards. For
    ``thorough`` and ``most`` see Evaluator, for the last three see ZeroShotModel.

    Every rank asks ``stopped`` before each batch. Raises EvaluationStopped when it returns True.
    """
    training = model.training
    sharded = isinstance(model, nn.Module) and is_sharded(model)  # FSDP keeps tensors that it makes here for training
    model.eval()
    try:
        with torch.no_grad() if sharded else torch.inference_mode(), precision:
            towers = StoppableEncoders(model, stopped)
            asked = ZeroShotModel(
                towers,
                tokenizer,
                device,
                score=_stoppable(score, stopped),
                write=_stoppable(write, stopped),
                features=_stoppable(features, stopped),
            )
            return evaluator.evaluate(asked, thorough=thorough, most=most)
    finally:
        model.train(training)


def named_metrics(result: EvaluationResult) -> dict[str, float]:
    """The metrics by the names under which they are logged; see ``Kind.logged``."""
    return {result.kind.logged(result.name, key): value for key, value in result.metrics.items()}
