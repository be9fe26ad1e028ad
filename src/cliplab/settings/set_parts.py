"""What each value of a zero-shot set is for."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from cliplab.settings.signatures import signature_of

IMAGES = "cliplab.evaluation.batches.EvaluationImages"


class SetParts(NamedTuple):
    """``data_sets`` are the keys of a set's data sets with the argument that each becomes, ``reading`` says how their
    pictures are read, and ``evaluator`` is the rest: the evaluator's node."""

    data_sets: dict[str, str]
    reading: dict[str, Any]
    evaluator: dict[str, Any]


def set_parts(node: dict[str, Any]) -> SetParts:
    """Split the node of a set, in which all values stand beside each other: ``zeroshot.folder.batch_size`` beside
    ``zeroshot.folder.templates``.

    Data sets reach the evaluator as EvaluationImages: ``dataset`` as ``images``, and another one, such as ``train``, as
    ``train_images`` where the evaluator has an argument of that name.
    """
    takes = signature_of(node["_target_"]).parameters
    data_sets = {"dataset": "images"} if "images" in takes else {}
    data_sets |= {name.removesuffix("_images"): name for name in takes if name.endswith("_images")}
    known = signature_of(IMAGES).parameters
    reading = {key: value for key, value in node.items() if key in known and key not in data_sets}
    return SetParts(
        data_sets, reading, {key: value for key, value in node.items() if key not in {*data_sets, *reading}}
    )


def parts_to_check(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The evaluator and its EvaluationImages as nodes whose arguments can be checked before anything is built. A class
    that cannot be imported is left for the check to tell."""
    try:
        parts = set_parts(node)
    except Exception:
        yield node
        return
    yield {**parts.evaluator, **{argument: {} for key, argument in parts.data_sets.items() if key in node}}
    yield {"_target_": IMAGES, "dataset": {}, "transform": {}, **parts.reading}
