"""From the states of a sequence to one vector, and from there to the joint space."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from cliplab.rules import Count


class FirstPooling(nn.Module):
    """The state of the first token: the class token of BERT and of vision transformers."""

    def forward(self, states: Float[Tensor, "batch length width"], mask: Shaped[Tensor, "batch length"]) -> Tensor:
        return states[:, 0]


class MeanPooling(nn.Module):
    """The mean over the real tokens."""

    def forward(self, states: Float[Tensor, "batch length width"], mask: Shaped[Tensor, "batch length"]) -> Tensor:
        weight = mask.unsqueeze(-1).to(states.dtype)  # [B, N, 1]
        return (states * weight).sum(1) / weight.sum(1)


class LastPooling(nn.Module):
    """The state of the last real token: the end of text of T5 and of decoders."""

    def forward(self, states: Float[Tensor, "batch length width"], mask: Int[Tensor, "batch length"]) -> Tensor:
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]


class MLPProjection(nn.Sequential):
    """Two matrices without bias and a GELU between them, as wide as the mean of both ends (open_clip's ``mlp``)."""

    def __init__(self, width: Count, output_dim: Count) -> None:
        hidden = (width + output_dim) // 2
        super().__init__(nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, output_dim, bias=False))


class ReluProjection(nn.Sequential):
    """A ReLU and a matrix with a bias. After the linear projection of a tower it makes the non-linear projection of ConVIRT
    (Zhang et al. 2020, section 2.2): two matrices with a ReLU between them."""

    def __init__(self, embed_dim: Count) -> None:
        super().__init__(nn.ReLU(), nn.Linear(embed_dim, embed_dim))
