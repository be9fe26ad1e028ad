"""Counts that are updated with each batch of a classification set, and the choice of images for a part of a set."""

import numpy as np
import torch
from torch import Tensor

from cliplab.distributed import gather_objects
from cliplab.evaluation.metrics import CalibrationBins, Confusion, RankCounts, label_ranks, same_answer_shares
from cliplab.evaluation.model import Sigmoid
from cliplab.evaluation.prompts import SCALE

TOP = 5
COLUMNS = ("index", "label", "rank", "top5", "top5_probability")


class Tally:
    """Ranks, calibration bins, confusions, ranks of each template alone, and a row for each image.

    Probabilities are a softmax over the classes or, with ``sigmoid``, a sigmoid for each class.
    """

    def __init__(self, classes: int, templates: int, device: torch.device, sigmoid: Sigmoid | None = None) -> None:
        self.sigmoid = sigmoid
        self.counts = RankCounts(classes, device)
        self.bins = CalibrationBins(device=device)
        self.confusion = Confusion(classes, device)
        self.templates = RankCounts(templates, device)
        self.rows: list[tuple[Tensor, ...]] = []

    def update(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Count a batch: logits of ``Prompts`` ``[batch, classes]``, labels ``[batch]``, and the rows of the images."""
        ranks = label_ranks(logits, labels)
        top = logits.sort(dim=1, descending=True, stable=True).indices[:, :TOP]  # ties are broken as in the ranks
        shares = (logits.softmax(-1) if self.sigmoid is None else self.sigmoid(logits / SCALE)).gather(1, top)
        self.counts.update(ranks, labels)
        self.bins.update(shares[:, 0], ranks.rank < 1)
        self.confusion.update(labels, top[:, 0])
        self.rows.append((indices, labels, ranks.rank, top, shares))  # they stay on the device until the end

    def update_template(self, template: int, logits: Tensor, labels: Tensor) -> None:
        self.templates.update(label_ranks(logits, labels), torch.full_like(labels, template))

    def table(self) -> dict[str, np.ndarray]:
        """The rows of all ranks, in the order of the set."""
        columns = [torch.cat(parts).cpu().numpy() for parts in zip(*self.rows, strict=True)]
        columns = [np.concatenate(parts) for parts in zip(*gather_objects(columns), strict=True)]
        order = columns[0].argsort()
        return {name: column[order] for name, column in zip(COLUMNS, columns, strict=True)}


def likely_mistakes(pairs: Tensor, metrics: dict[str, float]) -> list[str]:
    """Sentences about mistakes that are probably in the setting and not in the model. ``pairs`` is the total of Confusion.

    Labels and names may be in different orders: the accuracy is near chance, although images of the same label get the same
    answer. Or the names may be those of another set: most of them never occur as a label.
    """
    found = []
    within, overall = same_answer_shares(pairs)
    if metrics["acc1_ci_low"] <= 2 * metrics["chance"] and within >= max(0.25, 4 * overall):
        found.append(
            f"top-1 is {metrics['acc1']:.1%}, near chance, yet two images of one label get the same answer in "
            f"{within:.0%} of cases: labels and class names are probably in different orders; check dataset.class_names"
        )
    shown, classes = int((pairs.sum(1) > 0).sum()), len(pairs)
    if 2 * shown < classes <= metrics["images"]:
        found.append(
            f"only {shown} of the {classes} named classes have images: if the set has {shown} classes, it was scored "
            "against the names of another; check dataset.class_names"
        )
    return found


def fewer(*limits: int | None, of: int) -> int | None:
    """The lowest limit below ``of``, the number of images; None when no limit is below it."""
    lowest = min((limit for limit in limits if limit is not None), default=of)
    return lowest if lowest < of else None


def reversed_bits(n: int) -> list[int]:
    """The numbers 0 to n - 1, each with its 32 bits reversed (van der Corput's sequence, times 2 ** 32)."""
    return [sum(1 << (31 - bit) for bit in range(32) if i >> bit & 1) for i in range(n)]


def stratified_rows(labels: np.ndarray, most: int) -> list[int]:
    """``most`` rows, in ascending order. Each label has its share of them, evenly spread over the rows of the label."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    within = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # 0, 1, … in each label
    size = np.repeat(sizes, sizes)
    # The k-th of n rows gets a place in (0, 1), so that any first few rows are spread evenly.
    spread = np.empty(len(labels))
    for n in np.unique(size):
        turns = np.argsort(reversed_bits(n), kind="stable")
        place = np.empty(n)
        place[turns] = (np.arange(n) + 0.5) / n
        spread[size == n] = place[within[size == n]]
    chosen = order[np.lexsort((labels[order], spread))[:most]]
    return sorted(chosen.tolist())
