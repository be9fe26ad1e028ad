"""The interface of a model, as evaluators use it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cliplab.models.tokens import Tokens

Tokenizer = Callable[[Sequence[str]], Tokens]


class Encoders(Protocol):
    """Two towers into one space.

    ``text_fixed`` says that no part of the text tower trains, so that its embeddings can be kept for the next evaluation.
    ``logit_scale`` is the logarithm of the learned scale. ``logit_bias`` is the bias of a model that was trained with a
    sigmoid for each pair, such as SigLIP; None for a model that was trained with a softmax."""

    text_fixed: bool

    @property
    def logit_scale(self) -> Tensor: ...
    @property
    def logit_bias(self) -> Tensor | None: ...
    def encode_image(self, images: Tensor) -> Tensor: ...
    def encode_text(self, tokens: Tokens) -> Tensor: ...


class EncodersWithMode(Encoders, Protocol):
    """Encoders that are an ``nn.Module``, so that they can be switched to eval mode."""

    training: bool

    def eval(self) -> object: ...
    def train(self, mode: bool = True) -> object: ...


class Sigmoid(NamedTuple):
    """The probability of each text for an image, independent of other texts: sigmoid(scale * cosine + bias). Source: Zhai
    et al. 2023, "Sigmoid loss for language image pre-training", section 3.2."""

    scale: float
    bias: float

    def __call__(self, cosines: Tensor) -> Tensor:
        """Probabilities in the shape of ``cosines``. Those of one image need not sum to 1."""
        return (self.scale * cosines + self.bias).sigmoid()


def sigmoid_of(model: Encoders) -> Sigmoid | None:
    """The sigmoid of the model; None for a model without a bias."""
    if model.logit_bias is None:
        return None
    return Sigmoid(float(model.logit_scale.exp()), float(model.logit_bias))


Score = Callable[[Tensor, Tokens], Tensor]  # how likely each text is for each image, [images, texts]
Features = Callable[[Tensor], Tensor]  # a unit vector for each image
Write = Callable[[Tensor, int], list[str]]  # a caption for each image, the best of so many beams


@dataclass(frozen=True)
class ZeroShotModel:
    """A model that can be evaluated: its towers, the tokenizer of the text tower, and the device of both. ``score`` is that
    of an objective that trains no text embeddings; None compares embeddings. ``write`` is that of an objective with a
    decoder, which writes captions; None for any other. ``features`` are what a linear probe reads where the
    objective trains no image embeddings; None reads these."""

    encoders: Encoders
    tokenizer: Tokenizer
    device: torch.device
    score: Score | None = None
    write: Write | None = None
    features: Features | None = None
