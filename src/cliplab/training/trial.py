"""Decide how many images of each set are evaluated in a run that is short compared with its evaluations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from cliplab.evaluation.batches import EvaluationImages
from cliplab.evaluation.evaluator import Evaluator
from cliplab.evaluation.prompts import PROMPTS_PER_IMAGE

FEWEST = 8  # images that are taken of a set at least


class Parts(NamedTuple):
    """How many images of each evaluator's set are evaluated. None stands for whole sets.

    ``before`` holds for the evaluation before training, ``during`` for all others, the last one included. A run with
    ``during`` is a trial: its figures are of parts of the sets.
    """

    before: dict[str, int] | None = None
    during: dict[str, int] | None = None


def parts_of(sizes: dict[str, int], images: int, share: float | None) -> dict[str, int] | None:
    """How many images to take of each set, so that together they are ``share`` of ``images``. Each set gives its
    proportion, and at least ``FEWEST``. None when the whole sets are no more than that, or ``share`` is None."""
    whole = sum(sizes.values())
    if share is None or whole <= share * images:
        return None
    return {name: min(size, max(FEWEST, int(size * share * images / whole))) for name, size in sizes.items()}


def plan_parts(sizes: dict[str, int], *, trained: int, one_pass: int | None, share: float | None) -> Parts:
    """Parts for a run that trains on ``trained`` images. ``one_pass`` is the number of images in the training data, or None
    when it is not known. Only a run that ends within its first pass is a trial. All other runs end with a whole evaluation.
    """
    parts = parts_of(sizes, trained, share)
    return Parts(parts, parts if one_pass is None or trained < one_pass else None)


def describe(parts: Parts, evaluators: Sequence[Evaluator], trained: int) -> str:
    """A sentence for the screen; "" when all sets are evaluated whole."""
    if parts.before is None:
        return ""
    which = "every evaluation takes" if parts.during else "the evaluation before training takes"
    left_out = [e.kind.stem(e.name) for e in evaluators if e.final_only] if parts.during else []
    return (
        f"a short run, of {trained:,} images: {which} {sum(parts.before.values()):,} of the "
        f"{sum(sizes_of(evaluators).values()):,} images of all sets"
        f"{' and leaves out ' + ', '.join(left_out) if left_out else ''}, with at most "
        f"{PROMPTS_PER_IMAGE} prompts for each image; "
        "with callbacks.evaluation.trial_share=null it takes all"
    )


@contextmanager
def in_small_batches(images: EvaluationImages, most: int | None) -> Iterator[None]:
    """Limit batches to the size of the part, since each batch is filled up to its full size."""
    before = images.batch_size
    images.batch_size = min(before, most or before)
    try:
        yield
    finally:
        images.batch_size = before


def sizes_of(evaluators: Sequence[Evaluator]) -> dict[str, int]:
    """The number of images of each evaluator that runs in every evaluation."""
    return {e.kind.stem(e.name): len(e.images) for e in evaluators if not e.final_only}
