"""Random numbers and keys that follow samples: the same for any number of ranks, in any batch, and after a resume."""

import torch
from jaxtyping import Int
from torch import Tensor

from cliplab.models.tokens import Tokens, real_columns

_FACTORS = (
    0xBF58476D1CE4E5B9 - 2**64,
    0x94D049BB133111EB - 2**64,
)  # of splitmix64 (Steele et al. 2014), as signed numbers
_STEP = 0x9E3779B97F4A7C15 - 2**64


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A logical shift to the right of int64."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def _mixed(x: Tensor) -> Tensor:
    x = x + _STEP
    x = (x ^ _shifted(x, 30)) * _FACTORS[0]
    x = (x ^ _shifted(x, 27)) * _FACTORS[1]
    return x ^ _shifted(x, 31)


def uniforms(seed: int, *keys: Tensor) -> Tensor:
    """Numbers between 0 and 1, both excluded, float64, in the joint shape of ``keys``: int64 tensors that are broadcast.
    Each number depends on the seed and on its own keys alone."""
    state = _mixed(torch.tensor(seed, device=keys[0].device))
    for key in keys:
        state = _mixed(state ^ key)
    return (_shifted(state, 11).double() + 0.5) * 2.0**-53


def text_keys(tokens: Tokens) -> Int[Tensor, " texts"]:
    """A number for each text, whatever its padding: the same for equal texts, and different for others but for a chance of
    2**-64."""
    columns = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
    mixed = _mixed(_mixed(columns) ^ tokens.ids)
    return mixed.masked_fill(~real_columns(tokens.lengths, len(columns)), 0).sum(1)
