"""Exact counts with summed states, and intervals."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric


def wilson_interval(hits: float, total: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927). Raises ValueError when ``total`` is 0."""
    if total <= 0:
        raise ValueError("the interval of nothing is undefined: total is 0")
    share = hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def label_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the right one, int64 ``[batch]``; 0 is a hit. Ties go to the lower class index."""
    own = logits.gather(1, labels.unsqueeze(1))
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels.unsqueeze(1)
    return ((logits > own) | ((logits == own) & earlier)).sum(1)


class RankCounts(Metric):
    """Per class: images, first-place hits, top-five hits, summed rank."""

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(classes, 4, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ranks: Tensor, labels: Tensor) -> None:
        columns = torch.stack([torch.ones_like(ranks), ranks < 1, ranks < 5, ranks], dim=1)
        self.counts.index_add_(0, labels, columns.to(torch.int64))

    def compute(self) -> Tensor:
        """int64 ``[classes, 4]``."""
        return self.counts


class CalibrationBins(Metric):
    """Streamed expected calibration error (Guo et al. 2017, eq. 3): per confidence bin count, hits, confidence."""

    full_state_update = False
    bins: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        self.add_state("bins", torch.zeros(bins, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, hit: Tensor) -> None:
        slot = (confidence * len(self.bins)).ceil().long().sub(1).clamp(0, len(self.bins) - 1)
        columns = torch.stack([torch.ones_like(confidence), hit.to(confidence.dtype), confidence], dim=1)
        self.bins.index_add_(0, slot, columns.double())

    def compute(self) -> Tensor:
        """Expected calibration error in [0, 1]."""
        return (self.bins[:, 1] - self.bins[:, 2]).abs().sum() / self.bins[:, 0].sum()
