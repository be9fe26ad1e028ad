"""The evaluators that a config asks for."""

from collections.abc import Sequence
from typing import Any

from cliplab.checkpoints.weights import Weights
from cliplab.evaluation.result import EvaluationResult, file_stem
from cliplab.evaluation.retrieval import Retrieval
from cliplab.settings.config import build


def build_evaluators(config: dict[str, Any]) -> list[Any]:
    """The configured zero-shot sets, prepared as the data's ``eval_transform`` says."""
    evaluators = [build(node, f"zeroshot.{key}") for key, node in config["zeroshot"].items() if node]
    transform = config["data"].get("eval_transform")
    if transform and transform["_target_"] != Weights.transform:  # weights that were trained on other crops
        for evaluator in evaluators:
            evaluator.dataset.transform = build(transform, "data.eval_transform")
    return evaluators


def validation_evaluators(datamodule: Any) -> list[Any]:
    """Retrieval over the validation pairs, when there are any."""
    pairs = datamodule.validation_pairs()
    return [] if pairs is None else [Retrieval(name="val", dataset=pairs)]


def credits_of(evaluators: Sequence[Any]) -> list[str]:
    """Whom the pages of these sets have to name."""
    return sorted({c for e in evaluators for c in getattr(e.dataset, "credits", ())})


def announce(results: Sequence[EvaluationResult]) -> None:
    for result in results:
        name = file_stem(result.name, result.task)
        if "acc1" in result.metrics:
            print(f"{name}: top-1 {result.metrics['acc1']:.2%}, top-5 {result.metrics['acc5']:.2%}")
        elif "mean_average_precision" in result.metrics:
            print(f"{name}: mean average precision {result.metrics['mean_average_precision']:.2%}")
        elif "image_retrieval_recall@1" in result.metrics:
            ways = (result.metrics[f"{way}_retrieval_recall@1"] for way in ("image", "text"))
            print(f"{name}: recall@1 {{:.2%}} text to image, {{:.2%}} image to text".format(*ways))
