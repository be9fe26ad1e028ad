"""What an evaluator asks of a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cliplab.models.tokens import Tokens

Tokenizer = Callable[[Sequence[str]], Tokens]


class Encoders(Protocol):
    """Two towers into one space. ``text_fixed`` says that nothing of the text tower trains, so that its embeddings may
    be kept from one evaluation to the next."""

    text_fixed: bool

    def encode_image(self, images: Tensor) -> Tensor: ...
    def encode_text(self, tokens: Tokens) -> Tensor: ...


@dataclass(frozen=True)
class ZeroShotModel:
    """A model ready to be evaluated: its towers, the tokenizer of the text tower, and the device of both."""

    encoders: Encoders
    tokenizer: Tokenizer
    device: torch.device
