"""A run that is short beside its evaluations takes a part of each set, and says so."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cliplab.training.callbacks import Evaluate
from cliplab.training.trial import FEWEST, Parts, in_small_batches, parts_of, plan_parts

from .toys import ToyEvaluator, fit

SIZES = {"compositions": 1040, "unseen_words": 460, "val_retrieval": 300}


def test_parts_are_in_proportion_and_together_the_share_of_the_run() -> None:
    assert parts_of(SIZES, 180, 1.0) == {"compositions": 104, "unseen_words": 46, "val_retrieval": 30}
    assert parts_of(SIZES, 180, 2.0) == {"compositions": 208, "unseen_words": 92, "val_retrieval": 60}
    assert parts_of(SIZES, 1799, 1.0) is not None


@pytest.mark.parametrize(("images", "share"), [(1800, 1.0), (900, 2.0), (3, None)])
def test_whole_sets_where_they_do_not_outlast_the_share(images: int, share: float | None) -> None:
    assert parts_of(SIZES, images, share) is None


def test_no_set_gets_too_few_or_more_than_it_has() -> None:
    assert parts_of({"large": 100_000, "small": 40, "tiny": 3}, 32, 1.0) == {"large": 31, "small": FEWEST, "tiny": 3}
    assert parts_of({}, 0, 1.0) is None


@pytest.mark.parametrize(
    ("trained", "one_pass", "before", "during"),
    [
        (96, 6000, True, True),  # a few steps
        (96, None, True, True),  # of a stream whose length nobody knows
        (96, 96, True, False),  # one epoch over little data: its last evaluation is whole
        (96, 48, True, False),
        (200_000, 6000, False, False),
        (1800, 6000, False, False),
    ],
)
def test_the_last_evaluation_of_a_full_run_is_whole(
    trained: int, one_pass: int | None, before: bool, during: bool
) -> None:
    parts = plan_parts(SIZES, trained=trained, one_pass=one_pass, share=1.0)
    assert (parts.before is not None, parts.during is not None) == (before, during)


def test_batches_are_no_larger_than_the_part_and_as_before_afterwards() -> None:
    images: Any = SimpleNamespace(batch_size=256)
    with in_small_batches(images, 10):
        assert images.batch_size == 10
    with in_small_batches(images, None):
        assert images.batch_size == 256
    assert images.batch_size == 256


class Probe(ToyEvaluator):
    final_only = True


@pytest.mark.parametrize(
    ("one_pass", "asked", "said"),
    [
        (
            100,
            [(False, 8), (False, 8)],
            "a short run, of 3 images: every evaluation takes 8 of the 50 images of all sets ",
        ),
        (3, [(False, 8), (True, None), (True, None)], "the evaluation before training takes 8 of the 50 images"),
    ],
)
def test_the_evaluators_are_asked_for_parts(one_pass: int, asked: list[Any], said: str, tmp_path: Path) -> None:
    evaluation = Evaluate()
    evaluators = [ToyEvaluator(), Probe("probe")]
    evaluation.prepare(
        evaluators=evaluators,  # type: ignore[arg-type]
        tokenizer=None,  # type: ignore[arg-type]
        run_dir=tmp_path,
        steps_per_epoch=3,
        total_steps=3,
    )
    sentence = evaluation.plan(trained=3, one_pass=one_pass)
    assert said in sentence
    assert ("leaves out probe" in sentence) == (one_pass == 100)
    fit([1.0, 2.0, 3.0], [evaluation])
    assert [ask for evaluator in evaluators for ask in evaluator.asked] == asked
    assert evaluation.parts == Parts({"toy": 8}, {"toy": 8} if one_pass == 100 else None)
