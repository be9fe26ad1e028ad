"""One evaluation of a model, and the names under which its figures are logged."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from cliplab.evaluation.evaluator import Evaluator
from cliplab.evaluation.model import Tokenizer, ZeroShotModel
from cliplab.evaluation.result import EvaluationResult


def run_evaluator(
    evaluator: Evaluator,
    model: nn.Module,
    tokenizer: Tokenizer,
    device: torch.device,
    precision: AbstractContextManager[Any],
    *,
    thorough: bool,
) -> EvaluationResult:
    """Evaluate the model in eval mode, without gradient, in this precision; then restore the mode."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), precision:
            return evaluator.evaluate(ZeroShotModel(model, tokenizer, device), thorough=thorough)  # type: ignore[arg-type]
    finally:
        model.train(training)


def named_metrics(result: EvaluationResult) -> dict[str, float]:
    """The metrics as they are logged: ``zeroshot/<set>/<metric>``, ``linear_probe/<set>/<metric>``, or ``val/<metric>``
    for the validation pairs."""
    group = "linear_probe" if result.task == "linear_probe" else "zeroshot"
    prefix = "val" if result.name == "val" else f"{group}/{result.name}"
    return {f"{prefix}/{key}": value for key, value in result.metrics.items()}
