"""A frozen model that another one learns from."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cliplab.assembly.weights import check_classes, load_weights
from cliplab.checkpoints.read import read_pretrained
from cliplab.models.clip import CLIP
from cliplab.models.tokens import Tokenizer
from cliplab.objectives.distill import Taught
from cliplab.settings.build import build


class FrozenTeacher:
    """A model in eval mode, without gradients. It gets the pictures at its own size, with its own mean and deviation, and
    the texts through its own tokenizer. The pictures come as the student sees them, cut and augmented. The model follows
    them to their device."""

    def __init__(self, model: CLIP, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer

    @torch.no_grad()
    def __call__(self, images: Tensor, texts: Sequence[str]) -> Taught:
        device = images.device
        if self.model.logit_scale.device != device:
            self.model.to(device)
        embeds = self.model.encode_image(self.resized(images))
        return Taught(embeds, self.model.encode_text(self.tokenizer(texts).to(device)), self.model.logit_scale.exp())

    def resized(self, images: Tensor) -> Tensor:
        """At the teacher's size, bicubic with antialiasing; unchanged where they have it already."""
        size = self.model.image_size
        if images.shape[-1] == size:
            return images
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        return F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def read_teacher(source: str) -> FrozenTeacher:
    """The model that a name for ``pretrained=`` stands for. Raises ValueError as ``read_pretrained`` does."""
    try:
        weights = read_pretrained(source)
    except ValueError as error:
        raise ValueError(f"objective.teacher: {error}") from error
    check_classes(weights)
    model = build(weights.model, "model")
    load_weights(model, weights)
    return FrozenTeacher(model, build(weights.tokenizer, "tokenizer"))
