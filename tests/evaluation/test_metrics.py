"""Closed forms of intervals, ranks and calibration."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from cliplab.evaluation.intervals import wilson_interval
from cliplab.evaluation.metrics import (
    CalibrationBins,
    Confusion,
    RankCounts,
    calibration_error,
    label_ranks,
    same_answer_shares,
    top_confusions,
)


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
    assert torch.equal(whole.total(), parts.total())
    images, hits, top5, ranks, _, _ = whole.total().sum(0).tolist()
    order = logits.argsort(1, descending=True)
    place = (order == labels[:, None]).int().argmax(1)
    assert (images, hits, top5, ranks) == (40, (place < 1).sum(), (place < 5).sum(), place.sum())


def test_calibration_by_hand() -> None:
    bins = CalibrationBins(10)
    bins.update(torch.tensor([0.95, 0.95, 0.55, 0.55]), torch.tensor([True, True, True, False]))
    assert calibration_error(bins.total()) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4, abs=1e-6)
    assert bins.total()[9].tolist() == pytest.approx([2, 2, 1.9])
    bins.update(torch.tensor([1.0, 0.0]), torch.tensor([True, False]))
    assert bins.total()[:, 0].sum() == 6


def test_figures_are_torchmetrics() -> None:
    logits, labels = torch.randn(300, 9) * 2, torch.randint(0, 9, (300,))
    counts, bins = RankCounts(9), CalibrationBins(15)
    ranks = label_ranks(logits, labels)
    counts.update(ranks, labels)
    bins.update(logits.softmax(-1).max(1).values, ranks.rank < 1)
    total = counts.total().sum(0)
    options = {"num_classes": 9, "average": "micro"}
    assert float(total[1] / total[0]) == pytest.approx(float(multiclass_accuracy(logits, labels, **options)))
    assert float(total[2] / total[0]) == pytest.approx(float(multiclass_accuracy(logits, labels, top_k=5, **options)))
    recalls = counts.total()[:, 1] / counts.total()[:, 0]
    theirs = multiclass_accuracy(logits, labels, num_classes=9, average="none")
    torch.testing.assert_close(recalls, theirs)
    error = multiclass_calibration_error(logits.softmax(-1), labels, num_classes=9, n_bins=15, norm="l1")
    assert calibration_error(bins.total()) == pytest.approx(float(error), abs=1e-6)


def test_confusions_and_agreement_by_hand() -> None:
    confusion = Confusion(3)
    confusion.update(torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 0, 2]))
    confusion.update(torch.tensor([2, 1]), torch.tensor([2, 2]))
    pairs = confusion.total()
    assert pairs.tolist() == [[1, 2, 0], [0, 0, 2], [0, 0, 1]]
    wrong = [{"label": 0, "answer": 1, "count": 2}, {"label": 1, "answer": 2, "count": 2}]
    assert top_confusions(pairs) == wrong
    assert top_confusions(pairs, most=1) == wrong[:1]
    within, overall = same_answer_shares(pairs)
    assert within == pytest.approx((2 + 2) / (6 + 2))
    assert overall == pytest.approx((2 + 6) / 30)
