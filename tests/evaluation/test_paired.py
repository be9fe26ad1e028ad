"""Paired tests against values worked out by hand, and the published rows."""

import math

import pytest

from cliplab.evaluation.paired import holm, mcnemar, paired_difference
from cliplab.evaluation.references import expected_under_shift, references_for


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (0, 6, 2 / 64), (6, 0, 2 / 64), (1, 2, 1.0), (5, 15, 2 * 21700 / 2**20), (4, 4, 1.0)],
)
def test_mcnemar_is_the_binomial_test_of_a_fair_coin(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p, rel=1e-12)


def test_mcnemar_of_many_images_agrees_with_the_normal_limit() -> None:
    z = (20_400 - 19_600 - 1) / math.sqrt(40_000)
    assert mcnemar(19_600, 20_400) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_difference_of_hand_made_columns() -> None:
    first = [True] * 60 + [True] * 5 + [False] * 15 + [False] * 20
    second = [True] * 60 + [False] * 5 + [True] * 15 + [False] * 20
    d = paired_difference(first, second)
    assert (d.value, d.only_first, d.only_second) == (0.10, 5, 15)
    p, q, n = 6 / 102, 16 / 102, 102
    half = 1.959963984540054 * math.sqrt((p + q - (q - p) ** 2) / n)
    assert (d.low, d.high) == pytest.approx((q - p - half, q - p + half))
    back = paired_difference(second, first)
    assert (back.value, back.low, back.high, back.p_value) == pytest.approx((-d.value, -d.high, -d.low, d.p_value))


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        paired_difference([True] * 3, [True] * 2)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


@pytest.mark.parametrize("name", ["ViT-B/32", "ViT-B-32", "vit_b32", "ViT-B-32-quickgelu"])
def test_published_rows_are_found_under_every_spelling(name: str) -> None:
    rows = references_for("imagenet", name)
    assert [r.acc1 for r in rows] == sorted((r.acc1 for r in rows), reverse=True)
    assert 0.632 in [r.acc1 for r in rows if r.source.startswith("Radford")]
    assert references_for("emoji_compositions", name) == []


def test_published_models_lie_on_their_own_line_under_shift() -> None:
    expected = expected_under_shift("imagenet_v2", 0.6332)
    assert expected is not None
    assert abs(expected - 0.5592) < 0.01
    assert expected_under_shift("imagenet_a", 0.6) is None
