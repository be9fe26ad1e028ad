"""Position embeddings of a vision transformer for another image size."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def resize_positions(
    positions: Float[Tensor, "old width"], new: int, extra_tokens: int = 1
) -> Float[Tensor, "new_length width"]:
    """Learned positions of a square grid, ``extra_tokens`` of other kinds before them, for ``new`` positions in all.

    The grid is interpolated as a picture: bicubic, antialiased, in float32, as open_clip does; the extra tokens stay.
    Raises ValueError when a grid is not square.
    """
    if new == positions.shape[0]:
        return positions
    old_side, new_side = math.isqrt(positions.shape[0] - extra_tokens), math.isqrt(new - extra_tokens)
    for length, side in ((positions.shape[0], old_side), (new, new_side)):
        if side * side + extra_tokens != length:
            raise ValueError(
                f"{length} position embeddings are not a square grid and {extra_tokens} extra token(s); "
                "set model.image_encoder.image_size to a multiple of the patch size"
            )
    grid = (
        positions[extra_tokens:].float().view(1, old_side, old_side, -1).permute(0, 3, 1, 2)
    )  # [1, width, side, side]
    grid = F.interpolate(grid, size=(new_side, new_side), mode="bicubic", antialias=True, align_corners=False)
    grid = grid.flatten(2)[0].T.to(positions.dtype)  # [new_side ** 2, width]
    return torch.cat([positions[:extra_tokens], grid])
