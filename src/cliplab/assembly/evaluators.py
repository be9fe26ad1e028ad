"""Build the evaluators of zero-shot sets from their values in the config."""

import sys
from collections.abc import Sequence
from typing import Any

from cliplab.assembly.training_checks import is_first_rank
from cliplab.data.datamodule import CaptionDataModule
from cliplab.evaluation.batches import EvaluationImages, Transform
from cliplab.evaluation.captioning import Captioning
from cliplab.evaluation.evaluator import Evaluator
from cliplab.evaluation.kind import VALIDATION
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.retrieval import Retrieval
from cliplab.objectives.objective import Objective
from cliplab.objectives.writing import writer_of
from cliplab.settings.build import build
from cliplab.settings.check_captions import no_writer
from cliplab.settings.config import ConfigError
from cliplab.settings.set_parts import IMAGES, set_parts


def build_evaluator(node: dict[str, Any], place: str, transform: Transform) -> Evaluator:
    """Build one evaluator. ``transform`` prepares all its pictures."""
    parts = set_parts(node)
    images = {}
    for key, argument in parts.data_sets.items():
        dataset = build(node[key], f"{place}.{key}")
        images[argument] = build({"_target_": IMAGES, **parts.reading}, place, dataset=dataset, transform=transform)
    return build(parts.evaluator, place, **images)


def build_evaluators(config: dict[str, Any]) -> list[Evaluator]:
    """An evaluator for each zero-shot set of the config. ``data.eval_transform`` prepares all pictures, as the weights were
    trained to see them."""
    transform = build(config["data"]["eval_transform"], "data.eval_transform")
    nodes = {f"zeroshot.{key}": node for key, node in config["zeroshot"].items() if node}
    evaluators = {place: build_evaluator(node, place, transform) for place, node in nodes.items()}
    for place, evaluator in evaluators.items():
        for note in evaluator.notes:
            print(f"{place}: {note}", file=sys.stderr)
    return list(evaluators.values())


def validation_evaluators(datamodule: CaptionDataModule) -> list[Evaluator]:
    """Retrieval over the validation pairs, when there are any."""
    pairs = datamodule.validation_pairs()
    if pairs is None:
        return []
    return [Retrieval(name=VALIDATION, images=EvaluationImages(pairs, transform=datamodule.eval_transform))]


def with_captions(
    evaluators: Sequence[Evaluator], objective: Objective | None, *, sharded: bool = False
) -> list[Evaluator]:
    """The evaluators, and captions of the validation pairs where the objective writes captions. With ``sharded`` towers no
    captions are written: ranks would wait for those that write longer ones. Raises ConfigError for a set to write captions
    for where the objective writes none."""
    if writer_of(objective) is None:
        asked = next((one.name for one in evaluators if isinstance(one, Captioning)), None)
        if asked is not None:
            raise ConfigError(no_writer(asked))
        return list(evaluators)
    if sharded:
        if is_first_rank():
            print("captions are not written with sharded towers; task=evaluate run=<run> writes and scores them")
        return [one for one in evaluators if not isinstance(one, Captioning)]
    pairs = [one.images for one in evaluators if one.name == VALIDATION and isinstance(one, Retrieval)]
    return [*evaluators, *(Captioning(name=VALIDATION, images=images) for images in pairs)]


def credits_of(evaluators: Sequence[Evaluator]) -> list[str]:
    return sorted({name for evaluator in evaluators for name in evaluator.images.dataset.credits})


def announce(results: Sequence[EvaluationResult]) -> None:
    """Print a line for each result, and its warnings."""
    for result in results:
        part = f" (a part, {result.details['subset']})" if result.details.get("subset") else ""
        print(f"{result.stem}{part}: {result.kind.say(result.metrics)}")
        for warning in result.details.get("warnings") or ():
            print(f"{result.stem}: {warning}", file=sys.stderr)
