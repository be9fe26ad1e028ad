"""Published zero-shot accuracies, for comparison. The rows are in references.json, with their sources."""

import functools
import json
import math
import re
from pathlib import Path
from typing import NamedTuple


class Reference(NamedTuple):
    dataset: str
    model: str
    trained_on: str
    acc1: float
    source: str


@functools.cache
def _rows() -> tuple[Reference, ...]:
    file = Path(__file__).with_name("references.json")
    return tuple(Reference(**row) for row in json.loads(file.read_text(encoding="utf8")))


def normalised(name: str) -> str:
    """One spelling for ``ViT-B/32``, ``ViT-B-32`` and ``vit_b32``."""
    return re.sub(r"[^a-z0-9]", "", name.lower().removesuffix("-quickgelu"))


def references_for(dataset: str, model: str) -> list[Reference]:
    """Published figures of this architecture on this set, the best first. Empty when none are known."""
    found = [r for r in _rows() if r.dataset == dataset and normalised(r.model) == normalised(model)]
    return sorted(found, key=lambda r: -r.acc1)


def expected_under_shift(dataset: str, base: float) -> float | None:
    """The accuracy on a shifted set that is expected of a model with this ImageNet accuracy (``base``).

    It is on a line through the published CLIP models, in logits (Taori et al. 2020, section 3). None when fewer than five
    models are known, or when ``base`` is 0 or 1.
    """
    shifted = {r.model: r.acc1 for r in _rows() if r.dataset == dataset}
    known = [
        (logit(r.acc1), logit(shifted[r.model]))
        for r in _rows()
        if r.dataset == "imagenet" and r.model in shifted and r.source.startswith("open_clip")
    ]
    if dataset == "imagenet" or len(known) < 5 or not 0 < base < 1:
        return None
    mean_x, mean_y = (sum(column) / len(known) for column in zip(*known, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in known) / sum((x - mean_x) ** 2 for x, _ in known)
    return 1 / (1 + math.exp(-(mean_y + slope * (logit(base) - mean_x))))


def logit(share: float) -> float:
    return math.log(share / (1 - share))
