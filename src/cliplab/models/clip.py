"""Two towers and one joint space."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.models.tokens import Tokens

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class CLIPOutput(NamedTuple):
    """Unit embeddings and the exponentiated scale."""

    image_embeds: Float[Tensor, "batch embed_dim"]
    text_embeds: Float[Tensor, "batch embed_dim"]
    logit_scale: Float[Tensor, ""]
    logit_bias: Float[Tensor, ""] | None = None


class CLIP(nn.Module):
    """Image tower, text tower and a learned temperature (Radford et al. 2021, figure 3).

    ``init_temperature`` is the paper's 0.07; the scale ``exp(logit_scale)`` starts at its inverse and
    ``clamp_logit_scale`` keeps it at ``max_logit_scale`` (100) or below. ``init_logit_bias`` adds SigLIP's bias.
    ``image_mean`` and ``image_std`` normalise the pictures; None takes those of the image tower, or else the paper's.
    Raises ValueError when a tower's ``output_dim`` is not ``embed_dim``.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        *,
        embed_dim: int,
        init_temperature: float = 0.07,
        max_logit_scale: float = 100.0,
        init_logit_bias: float | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for name, tower in (("image_encoder", image_encoder), ("text_encoder", text_encoder)):
            if tower.output_dim != embed_dim:
                raise ValueError(
                    f"model.{name} gives {tower.output_dim} dimensions but model.embed_dim is {embed_dim}; "
                    f"set model.{name}.output_dim to ${{model.embed_dim}}"
                )
        self.image_encoder, self.text_encoder, self.embed_dim = image_encoder, text_encoder, embed_dim
        self.text_fixed = False  # set while nothing of the text tower trains: its embeddings can be kept
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / init_temperature)))
        self.logit_bias = None if init_logit_bias is None else nn.Parameter(torch.tensor(init_logit_bias))
        self.max_log_scale = math.log(max_logit_scale)
        image_mean = image_mean or getattr(image_encoder, "image_mean", CLIP_MEAN)
        image_std = image_std or getattr(image_encoder, "image_std", CLIP_STD)
        self.register_buffer("image_mean", torch.tensor(image_mean).view(3, 1, 1))
        self.register_buffer("image_std", torch.tensor(image_std).view(3, 1, 1))

    @property
    def image_size(self) -> int:
        return int(self.image_encoder.image_size)  # type: ignore[arg-type]

    def encode_image(self, images: Tensor) -> Float[Tensor, "batch embed_dim"]:
        """Images ``[batch, 3, size, size]``, uint8 in 0..255 or float in 0..1, to unit vectors in float32."""
        pixels = images.to(self.image_mean.dtype) / 255 if images.dtype == torch.uint8 else images
        embeds = self.image_encoder((pixels - self.image_mean) / self.image_std)
        return F.normalize(embeds.float(), dim=-1)

    def encode_text(self, tokens: Tokens) -> Float[Tensor, "batch embed_dim"]:
        """Tokens to unit vectors in float32."""
        return F.normalize(self.text_encoder(tokens).float(), dim=-1)

    def forward(self, images: Tensor, tokens: Tokens) -> CLIPOutput:
        return CLIPOutput(
            self.encode_image(images), self.encode_text(tokens), self.logit_scale.float().exp(), self.logit_bias
        )

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        self.logit_scale.clamp_(max=self.max_log_scale)
