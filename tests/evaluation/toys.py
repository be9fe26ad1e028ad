"""Towers and sets whose right answers are known beforehand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cliplab.data.transforms import to_tensor
from cliplab.evaluation.batches import EvaluationImages
from cliplab.evaluation.model import ZeroShotModel
from cliplab.models.tokens import Tokens

DEVICE = torch.device("cpu")


class Words:
    """A tokenizer that numbers texts: token i stands for the i-th distinct text it has met."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> Tokens:
        ids = torch.tensor([[self.known.setdefault(text, len(self.known))] for text in texts])
        return Tokens(ids, torch.ones(len(texts), dtype=torch.int64))


class Table:
    """Embeds text i as row i of ``texts`` and an image by the row its first pixel names in ``images``."""

    text_fixed = False

    def __init__(self, images: Tensor, texts: Tensor, bias: float | None = None, scale: float = 100.0) -> None:
        self.logit_scale = torch.tensor(scale).log()
        self.logit_bias = None if bias is None else torch.tensor(bias)
        self.images, self.texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)

    def encode_image(self, images: Tensor) -> Tensor:
        return self.images[images[:, 0, 0, 0].long()]

    def encode_text(self, tokens: Tokens) -> Tensor:
        return self.texts[tokens.ids[:, 0]]


def toy_model(images: Tensor, texts: Tensor) -> ZeroShotModel:
    return ZeroShotModel(Table(images, texts), Words(), DEVICE)


class AsItIs:
    """A picture's pixels, unchanged."""

    fingerprint = "none"

    def __call__(self, image: Image.Image) -> Tensor:
        return to_tensor(image)


class Numbered:
    """Picture i is 2 by 2 pixels of value ``first`` + i."""

    credits: Sequence[str] = ()
    notes: Sequence[str] = ()

    def __init__(self, targets: Sequence[Any], fingerprint: str = "f", first: int = 0) -> None:
        self.targets, self.fingerprint, self.first = list(targets), fingerprint, first

    def __len__(self) -> int:
        return len(self.targets)

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(np.full((2, 2, 3), self.first + index, dtype=np.uint8))

    def target(self, index: int) -> Any:
        return self.targets[index]


class Labelled(Numbered):
    """Image i carries i as its pixels and ``labels[i]`` as its label."""

    templates = None

    def __init__(
        self, labels: Sequence[int], names: Sequence[str] | None, fingerprint: str = "f", first: int = 0
    ) -> None:
        super().__init__(labels, fingerprint, first)
        self.labels, self.class_names = np.asarray(labels), None if names is None else list(names)
        self.groups: dict[str, np.ndarray] = {}

    def relabel(self, places: Sequence[int]) -> None:
        self.labels = np.asarray(places)[self.labels]
        self.targets = self.labels.tolist()


def prepared(pictures: Any, **options: Any) -> EvaluationImages:
    return EvaluationImages(pictures, transform=AsItIs(), **options)
