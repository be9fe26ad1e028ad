"""Two towers and one joint space."""

import math
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.models.encoders import ImageEncoder, ImageStates, TextEncoder, TextStates
from cliplab.models.tokens import Tokens
from cliplab.rules import Count, Positive

EMBEDS = frozenset({"image_embeds", "text_embeds"})


class Encoded(NamedTuple):
    """What was encoded of a batch of pairs: unit embeddings, the exponentiated scale, and the states of the towers.

    A part that was not asked for is None.
    """

    image_embeds: Float[Tensor, "batch embed_dim"] | None
    text_embeds: Float[Tensor, "batch embed_dim"] | None
    logit_scale: Float[Tensor, ""]
    logit_bias: Float[Tensor, ""] | None = None
    image_states: ImageStates | None = None
    text_states: TextStates | None = None


def _unit(pooled: Tensor, projection: nn.Module | None) -> Float[Tensor, "batch embed_dim"]:
    """Unit vectors in float32."""
    projected = pooled if projection is None else projection(pooled)
    return F.normalize(projected.float(), dim=-1)


class CLIP(nn.Module):
    """Image tower, text tower and a learned temperature (Radford et al. 2021, figure 3).

    ``init_temperature`` is the paper's 0.07; the scale ``exp(logit_scale)`` starts at its inverse and
    ``keep_in_range`` keeps it at ``max_logit_scale`` (100) or below. ``init_logit_bias`` adds SigLIP's bias.
    ``projection`` is called with the width of the joint space, once for each tower, and is applied to what the tower gives;
    None leaves the towers' own linear projections. ``image_mean`` and ``image_std`` normalise the pictures; None takes those
    of the image tower. Raises ValueError when a tower's ``output_dim`` is not ``embed_dim``.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        *,
        embed_dim: Count,
        init_temperature: Positive = 0.07,
        max_logit_scale: Positive = 100.0,
        init_logit_bias: float | None = None,
        projection: Callable[[int], nn.Module] | None = None,
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
        self.image_projection = None if projection is None else projection(embed_dim)
        self.text_projection = None if projection is None else projection(embed_dim)
        self.text_fixed = False  # set while nothing of the text tower trains: its embeddings can be kept
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / init_temperature)))
        self.logit_bias = None if init_logit_bias is None else nn.Parameter(torch.tensor(float(init_logit_bias)))
        self.max_log_scale = math.log(max_logit_scale)
        image_mean = image_mean or image_encoder.image_mean
        image_std = image_std or image_encoder.image_std
        self.register_buffer("image_mean", torch.tensor(image_mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("image_std", torch.tensor(image_std, dtype=torch.float32).view(3, 1, 1))

    @property
    def image_size(self) -> int:
        return self.image_encoder.image_size

    def encode_image(self, images: Tensor) -> Float[Tensor, "batch embed_dim"]:
        """Images ``[batch, 3, size, size]``, uint8 in 0..255 or float in 0..1, to unit vectors in float32."""
        return _unit(self.image_encoder(self.normalised(images)), self.image_projection)

    def normalised(self, images: Tensor) -> Float[Tensor, "batch 3 height width"]:
        """The input of the image tower: pixels, uint8 in 0..255 or float in 0..1, minus the mean, over the deviation."""
        pixels = images.to(self.image_mean.dtype)  # that of the weights, which bf16-true makes bfloat16
        pixels = pixels / 255 if images.dtype == torch.uint8 else pixels
        return (pixels - self.image_mean) / self.image_std

    def encode_text(self, tokens: Tokens) -> Float[Tensor, "batch embed_dim"]:
        """Tokens to unit vectors in float32."""
        return _unit(self.text_encoder(tokens), self.text_projection)

    def forward(self, images: Tensor, tokens: Tokens, reads: Set[str] = EMBEDS) -> Encoded:
        """Encode the parts named in ``reads``. Each tower runs at most once."""
        image_embeds = text_embeds = image_states = text_states = None
        if "image_states" in reads:
            image_states = self.image_encoder.forward_states(self.normalised(images))
            image_embeds = _unit(image_states.pooled, self.image_projection)
        elif "image_embeds" in reads:
            image_embeds = self.encode_image(images)
        if "text_states" in reads:
            text_states = self.text_encoder.forward_states(tokens)
            text_embeds = _unit(text_states.pooled, self.text_projection)
        elif "text_embeds" in reads:
            text_embeds = self.encode_text(tokens)
        scale = self.logit_scale.float().exp()
        return Encoded(image_embeds, text_embeds, scale, self.logit_bias, image_states, text_states)

    @torch.no_grad()
    def keep_in_range(self) -> None:
        """Limit the scale to ``max_logit_scale``. Call it after each optimizer step."""
        self.logit_scale.clamp_(max=self.max_log_scale)
