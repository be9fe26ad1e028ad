"""How much of each set an evaluation takes when the whole would outlast the run that it is made for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from cliplab.evaluation.batches import EvaluationImages
from cliplab.evaluation.evaluator import Evaluator

FEWEST = 8  # images of a set


class Parts(NamedTuple):
    """Of how many images of each evaluator's set an evaluation is made; None stands for all sets as they are.

    ``before`` is of the evaluation before training, ``during`` of the others, the last included: a run that has one is a
    trial, whose figures are of parts.
    """

    before: dict[str, int] | None = None
    during: dict[str, int] | None = None


def parts_of(sizes: dict[str, int], images: int, share: float | None) -> dict[str, int] | None:
    """So many images of each set that together they are ``share`` of ``images``, each set in proportion and with
    ``FEWEST`` at least. None when the whole sets are no more than that, or ``share`` is None."""
    whole = sum(sizes.values())
    if share is None or whole <= share * images:
        return None
    return {name: min(size, max(FEWEST, int(size * share * images / whole))) for name, size in sizes.items()}


def plan_parts(sizes: dict[str, int], *, trained: int, one_pass: int | None, share: float | None) -> Parts:
    """Parts for a run that trains on ``trained`` images, where ``one_pass`` over the training data are so many (None when
    that is not known). Only a run that ends within its first pass is a trial: the last evaluation of any other is whole.
    """
    parts = parts_of(sizes, trained, share)
    return Parts(parts, parts if one_pass is None or trained < one_pass else None)


def describe(parts: Parts, evaluators: Sequence[Evaluator], trained: int) -> str:
    """A sentence for the screen; empty when all is evaluated whole."""
    if parts.before is None:
        return ""
    which = "every evaluation takes" if parts.during else "the evaluation before training takes"
    left_out = [e.kind.stem(e.name) for e in evaluators if e.final_only] if parts.during else []
    return (
        f"a short run, of {trained:,} images: {which} {sum(parts.before.values()):,} of the "
        f"{sum(sizes_of(evaluators).values()):,} images of all sets"
        f"{' and leaves out ' + ', '.join(left_out) if left_out else ''}; "
        "with callbacks.evaluation.trial_share=null it takes all"
    )


@contextmanager
def in_small_batches(images: EvaluationImages, most: int | None) -> Iterator[None]:
    """Batches no larger than the part, since each is filled up to its full size."""
    before = images.batch_size
    images.batch_size = min(before, most or before)
    try:
        yield
    finally:
        images.batch_size = before


def sizes_of(evaluators: Sequence[Evaluator]) -> dict[str, int]:
    """Images by evaluator, of those that run in every evaluation."""
    return {e.kind.stem(e.name): len(e.images) for e in evaluators if not e.final_only}
