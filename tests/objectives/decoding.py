"""A small model and pairs of pictures and captions for objectives that have a decoder."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cliplab.models.clip import CLIP
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens
from cliplab.models.vision_transformer import VisionTransformer
from cliplab.objectives.objective import Objective

from .test_bag_of_words import TOKENS, corpus_of

CAPTIONS = ["a b", "a b c", "a", "b a c a"]
VOCABULARY = 12


def towers() -> CLIP:
    torch.manual_seed(2)
    image = VisionTransformer(image_size=8, patch_size=4, width=16, layers=1, heads=2, output_dim=8)
    text = TextTransformer(vocab_size=VOCABULARY, context_length=8, width=16, layers=2, heads=2, output_dim=8)
    return CLIP(image, text, embed_dim=8).eval()


def built(objective: Objective, model: CLIP) -> Objective:
    """Built over the captions, with weights that are large enough to tell texts apart."""
    objective.prepare(corpus_of(CAPTIONS))
    torch.manual_seed(3)
    objective.build_heads(model)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return objective.eval()


class Pairs(NamedTuple):
    images: Tensor
    tokens: Tokens
    epochs: Tensor
    indices: Tensor
    groups: Tensor | None = None
    captions: Sequence[str] = ()


def pairs(captions: Sequence[str] = CAPTIONS, first: int = 0) -> Pairs:
    indices = torch.arange(len(captions)) + first
    images = (torch.arange(len(captions) * 192).view(-1, 3, 8, 8) * 37 + 1000 * first) % 251
    return Pairs(images.to(torch.uint8), TOKENS(captions), torch.zeros_like(indices), indices)
