"""Split the values of a zero-shot set by the part that takes them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from cliplab.settings.signatures import signature_of

IMAGES = "cliplab.evaluation.batches.EvaluationImages"


class SetParts(NamedTuple):
    """``data_sets`` maps the keys of a set's data sets to the arguments of the evaluator that they become. ``reading`` are
    the arguments of EvaluationImages. ``evaluator`` is the node of the evaluator: all other values."""

    data_sets: dict[str, str]
    reading: dict[str, Any]
    evaluator: dict[str, Any]


def set_parts(node: dict[str, Any]) -> SetParts:
    """Split the node of a set. It holds all values on one level, such as ``zeroshot.folder.batch_size`` and
    ``zeroshot.folder.templates``.

    Data sets are passed to the evaluator as EvaluationImages: ``dataset`` as ``images``, and another one, such as ``train``,
    as ``train_images`` if the evaluator has that argument.
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
    """The nodes of the evaluator and of its EvaluationImages, so that their arguments can be checked before they are built.
    For a class that cannot be imported, the node itself: the check reports it."""
    try:
        parts = set_parts(node)
    except Exception:
        yield node
        return
    yield {**parts.evaluator, **{argument: {} for key, argument in parts.data_sets.items() if key in node}}
    yield {"_target_": IMAGES, "dataset": {}, "transform": {}, **parts.reading}
