"""The interface of every tower: one vector for each input, its states on request, and its layers in order."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from cliplab.models.tokens import Tokens

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ImageStates(NamedTuple):
    """The states of an image tower, one for each place of the image in reading order, and their pooled vector."""

    patches: Float[Tensor, "batch rows columns width"]
    pooled: Float[Tensor, "batch output_dim"]


class TextStates(NamedTuple):
    """The states of a text tower, one for each token, and their pooled vector.

    ``tokens`` is padded to the longest text of the batch and zero from ``lengths`` on.
    """

    tokens: Float[Tensor, "batch length width"]
    lengths: Int[Tensor, " batch"]
    pooled: Float[Tensor, "batch output_dim"]


class LayeredModule(nn.Module):
    """A module that lists its layers in order."""

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Every parameter once, in groups from input to output. By default all parameters form one group."""
        return [list(self.parameters())]

    def layers(self) -> list[nn.Module]:
        """The modules that do most of the work, from input to output. Each is called once in a forward pass, and none
        contains another. By default there are none."""
        return []


class ImageEncoder(LayeredModule):
    """An image tower over normalised images ``[batch, 3, image_size, image_size]``.

    ``forward`` gives the pooled vectors ``[batch, output_dim]`` alone, at the least cost. ``forward_states`` gives them
    with the states of the last layer, after the tower's last norm and before any projection; the vectors are equal to
    those of ``forward``, bit for bit, in eval mode. ``state_width`` is the width of the states. ``image_mean`` and
    ``image_std`` are the statistics that images are normalised with.
    """

    image_size: int
    output_dim: int
    state_width: int
    image_mean: Sequence[float] = CLIP_MEAN
    image_std: Sequence[float] = CLIP_STD

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output_dim"]:
        raise NotImplementedError

    def forward_states(self, images: Float[Tensor, "batch 3 height width"]) -> ImageStates:
        raise NotImplementedError(f"{type(self).__name__} gives no states; use a tower that does, or another objective")


class TextEncoder(LayeredModule):
    """A text tower over Tokens. ``forward`` and ``forward_states`` are as for ``ImageEncoder``.

    Raises ValueError for texts beyond ``context_length``.
    """

    output_dim: int
    state_width: int
    vocab_size: int
    context_length: int

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch output_dim"]:
        raise NotImplementedError

    def forward_states(self, tokens: Tokens) -> TextStates:
        raise NotImplementedError(f"{type(self).__name__} gives no states; use a tower that does, or another objective")

    def check_length(self, ids: Int[Tensor, "batch length"]) -> None:
        """Raises ValueError for texts beyond ``context_length``."""
        if ids.shape[1] > self.context_length:
            raise ValueError(
                f"texts of {ids.shape[1]} tokens reached a tower for {self.context_length}; "
                "give the tokenizer the tower's context_length"
            )


def check_image_size(images: Float[Tensor, "batch 3 height width"], image_size: int) -> None:
    """Raises ValueError for images of another size than the tower was built for."""
    if images.shape[-2:] != (image_size, image_size):
        raise ValueError(
            f"images of {images.shape[-2]} x {images.shape[-1]} pixels reached a tower for {image_size}; "
            "set model.image_encoder.image_size"
        )


def grid_of_states(states: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch rows columns width"]:
    """Arrange states in reading order as a square grid. Raises ValueError when their number is not a square."""
    side = math.isqrt(states.shape[1])
    if side * side != states.shape[1]:
        raise ValueError(
            f"model.image_encoder: this tower gives {states.shape[1]} states for a picture, which form no square grid; an "
            "objective that reads image_states needs another tower"
        )
    return states.unflatten(1, (side, side))
