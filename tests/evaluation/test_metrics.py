"""Closed forms of intervals, ranks and calibration."""

import pytest
import torch

from cliplab.evaluation.metrics import CalibrationBins, RankCounts, calibration_error, label_ranks, wilson_interval


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(0, 10, 0.0, 0.27754), (10, 10, 0.72246, 1.0), (5, 10, 0.23659, 0.76341), (632, 1000, 0.60166, 0.66131)],
)
def test_wilson_interval(hits: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=2e-4)


def test_interval_of_nothing() -> None:
    with pytest.raises(ValueError, match="total is 0"):
        wilson_interval(0, 0)


def test_ranks_by_hand_ties_go_to_the_lower_index() -> None:
    logits = torch.tensor([[3.0, 1, 2], [1, 1, 1], [1, 1, 1], [0, 5, 5], [float("nan"), 1, 0]])
    ranks = label_ranks(logits, torch.tensor([2, 0, 2, 2, 1]))
    assert ranks.rank.tolist() == [1, 0, 2, 1, 1]
    assert ranks.best.tolist() == [1, 0, 0, 0, 1]
    assert ranks.worst.tolist() == [1, 2, 2, 1, 1]


def test_rank_counts_add_up_over_batches() -> None:
    logits = torch.randn(40, 7)
    labels = torch.randint(0, 7, (40,))
    whole, parts = RankCounts(7), RankCounts(7)
    whole.update(label_ranks(logits, labels), labels)
    for rows in torch.arange(40).split(9):
        parts.update(label_ranks(logits[rows], labels[rows]), labels[rows])
    assert torch.equal(whole.compute(), parts.compute())
    images, hits, top5, ranks, _, _ = whole.compute().sum(0).tolist()
    order = logits.argsort(1, descending=True)
    place = (order == labels[:, None]).int().argmax(1)
    assert (images, hits, top5, ranks) == (40, (place < 1).sum(), (place < 5).sum(), place.sum())


def test_calibration_by_hand() -> None:
    bins = CalibrationBins(10)
    bins.update(torch.tensor([0.95, 0.95, 0.55, 0.55]), torch.tensor([True, True, True, False]))
    assert calibration_error(bins.compute()) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4, abs=1e-6)
    assert bins.compute()[9].tolist() == pytest.approx([2, 2, 1.9])
    bins.update(torch.tensor([1.0, 0.0]), torch.tensor([True, False]))
    assert bins.compute()[:, 0].sum() == 6
