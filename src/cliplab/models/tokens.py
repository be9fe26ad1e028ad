"""What a tokenizer hands to a text tower."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Tokens(NamedTuple):
    """Token ids padded only to the longest text of the batch; ``lengths`` count the start and end tokens too."""

    ids: Int[Tensor, "batch length"]
    lengths: Int[Tensor, " batch"]

    def to(self, device: torch.device | str) -> "Tokens":
        return Tokens(self.ids.to(device), self.lengths.to(device))
