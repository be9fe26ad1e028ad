"""Towers and sets whose right answers are known beforehand."""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn import functional as F

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

    def __init__(self, images: Tensor, texts: Tensor) -> None:
        self.images, self.texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)

    def encode_image(self, images: Tensor) -> Tensor:
        return self.images[images[:, 0, 0, 0].long()]

    def encode_text(self, tokens: Tokens) -> Tensor:
        return self.texts[tokens.ids[:, 0]]


class Labelled:
    """Image i carries i as its pixels and ``labels[i]`` as its label."""

    def __init__(self, labels: Sequence[int], names: Sequence[str], fingerprint: str = "f") -> None:
        self.labels, self.class_names, self.fingerprint = list(labels), list(names), fingerprint
        self.transform = SimpleNamespace(fingerprint="none")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((3, 2, 2), index, dtype=torch.uint8), self.labels[index]


class Captioned:
    """Image i with a list of captions."""

    def __init__(self, captions: Sequence[Sequence[str]], fingerprint: str = "f") -> None:
        self.captions, self.fingerprint = [list(c) for c in captions], fingerprint
        self.transform = SimpleNamespace(fingerprint="none")

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[Tensor, list[str]]:
        return torch.full((3, 2, 2), index, dtype=torch.uint8), self.captions[index]
