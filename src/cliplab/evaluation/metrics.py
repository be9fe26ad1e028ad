"""Exact counts, summed over batches and ranks."""

from typing import NamedTuple

import torch
from torch import Tensor

from cliplab.distributed import summed


class Ranks(NamedTuple):
    """How many classes are ranked before the right one; 0 is a hit. Each is int64 ``[batch]``.

    In a tie, ``rank`` prefers the lower class index, ``best`` the right class, ``worst`` the other classes.
    """

    rank: Tensor
    best: Tensor
    worst: Tensor


def label_ranks(logits: Tensor, labels: Tensor) -> Ranks:
    """Ranks of the right classes; logits ``[batch, classes]``, labels ``[batch]``. NaN is a miss."""
    right = logits.gather(1, labels.unsqueeze(1))
    tied = logits == right
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels.unsqueeze(1)
    best = (~(logits <= right)).sum(1)
    return Ranks(best + (tied & earlier).sum(1), best, best + tied.sum(1) - 1)


class RankCounts:
    """For each class: images, hits, top-five hits, sum of ranks, and the hits if every tie were lost or won."""

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(classes, 6, dtype=torch.int64, device=device)

    def update(self, ranks: Ranks, labels: Tensor) -> None:
        rank, best, worst = ranks
        columns = torch.stack([torch.ones_like(rank), rank < 1, rank < 5, rank, worst < 1, best < 1], dim=1)
        self.counts.index_add_(0, labels, columns.to(torch.int64))

    def total(self) -> Tensor:
        """The sum over all ranks, int64 ``[classes, 6]``."""
        return summed(self.counts)


class Confusion:
    """How often each class was answered for each label. Its size does not depend on the number of images."""

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        self.pairs = torch.zeros(classes, classes, dtype=torch.int32, device=device)

    def update(self, labels: Tensor, answers: Tensor) -> None:
        self.pairs.index_put_((labels, answers), torch.ones_like(labels, dtype=torch.int32), accumulate=True)

    def total(self) -> Tensor:
        """The sum over all ranks, int32 ``[classes, classes]``: rows are labels, columns are answers."""
        return summed(self.pairs)


def top_confusions(pairs: Tensor, most: int = 50) -> list[dict[str, int]]:
    """The most frequent wrong answers, sorted by count, label and answer."""
    wrong = pairs.clone().fill_diagonal_(0).flatten()
    order = wrong.argsort(descending=True, stable=True)[:most].tolist()
    classes = pairs.shape[1]
    return [{"label": i // classes, "answer": i % classes, "count": int(wrong[i])} for i in order if wrong[i]]


def same_answer_shares(pairs: Tensor) -> tuple[float, float]:
    """The probability that two images of the same label get the same answer, and that any two images do."""

    def agreement(groups: Tensor) -> float:
        groups = groups.double()
        sizes = groups.sum(-1)
        return float((groups * (groups - 1)).sum() / (sizes * (sizes - 1)).sum().clamp(min=1))

    return agreement(pairs), agreement(pairs.sum(0))


class CalibrationBins:
    """For each bin of confidence: images, hits, sum of confidences. Its size does not depend on the number of images."""

    def __init__(self, bins: int = 15, device: torch.device | str = "cpu") -> None:
        self.bins = torch.zeros(bins, 3, dtype=torch.float64, device=device)

    def update(self, confidence: Tensor, hit: Tensor) -> None:
        slot = (confidence * len(self.bins)).ceil().long().sub(1).clamp(0, len(self.bins) - 1)
        columns = torch.stack([torch.ones_like(confidence), hit.to(confidence.dtype), confidence], dim=1)
        self.bins.index_add_(0, slot, columns.double())

    def total(self) -> Tensor:
        """The sum over all ranks, float64 ``[bins, 3]``."""
        return summed(self.bins)


def calibration_error(bins: Tensor) -> float:
    """Expected calibration error in [0, 1] (Guo et al. 2017, eq. 3) of ``[bins, 3]``: images, hits, confidence."""
    return float((bins[:, 1] - bins[:, 2]).abs().sum() / bins[:, 0].sum())
