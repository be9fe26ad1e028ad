"""What an evaluator asks of a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cliplab.models.tokens import Tokens

Tokenizer = Callable[[Sequence[str]], Tokens]


class Encoders(Protocol):
    """Two towers into one space. ``text_fixed`` says that nothing of the text tower trains, so that its embeddings may
    be kept from one evaluation to the next. ``logit_scale`` is the logarithm of the learned scale, and ``logit_bias`` the
    bias of a model that was trained by a sigmoid of each pair, as SigLIP; None for a model of a softmax."""

    text_fixed: bool

    @property
    def logit_scale(self) -> Tensor: ...
    @property
    def logit_bias(self) -> Tensor | None: ...
    def encode_image(self, images: Tensor) -> Tensor: ...
    def encode_text(self, tokens: Tokens) -> Tensor: ...


class Sigmoid(NamedTuple):
    """How likely each text is for an image, each by itself: sigmoid(scale * cosine + bias). Source: Zhai et al. 2023,
    "Sigmoid loss for language image pre-training", section 3.2."""

    scale: float
    bias: float

    def __call__(self, cosines: Tensor) -> Tensor:
        """Probabilities of the shape of ``cosines``; those of one image need not sum to 1."""
        return (self.scale * cosines + self.bias).sigmoid()


def sigmoid_of(model: Encoders) -> Sigmoid | None:
    """The model's own; None for a model without a bias."""
    if model.logit_bias is None:
        return None
    return Sigmoid(float(model.logit_scale.exp()), float(model.logit_bias))


@dataclass(frozen=True)
class ZeroShotModel:
    """A model ready to be evaluated: its towers, the tokenizer of the text tower, and the device of both."""

    encoders: Encoders
    tokenizer: Tokenizer
    device: torch.device
