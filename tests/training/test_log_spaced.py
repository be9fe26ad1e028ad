"""Evaluations at even distances of the logarithm of images seen."""

import itertools

import pytest

from cliplab.training.callbacks.evaluate import log_spaced


def test_a_factor_of_ten_has_so_many_and_the_last_step_is_one() -> None:
    assert sorted(log_spaced(1000, 1)) == [10, 100, 1000]
    steps = sorted(log_spaced(10_000, 6))
    assert (steps[0], steps[-1], len(steps)) == (100, 10_000, 13)
    assert [b / a for a, b in itertools.pairwise(steps)] == pytest.approx([10 ** (1 / 6)] * 12, rel=0.01)


def test_a_short_run_has_each_step_once() -> None:
    assert sorted(log_spaced(4, 6)) == [1, 2, 3, 4]
