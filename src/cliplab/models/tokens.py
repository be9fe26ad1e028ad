"""The tokens of texts, and the interface of a tokenizer."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Int
from torch import Tensor


class Tokens(NamedTuple):
    """Token ids padded only to the longest text of the batch; ``lengths`` count the start and end tokens too."""

    ids: Int[Tensor, "batch length"]
    lengths: Int[Tensor, " batch"]

    def to(self, device: torch.device | str) -> "Tokens":
        return Tokens(self.ids.to(device), self.lengths.to(device))


class Tokenizer(Protocol):
    """Turns texts into Tokens. It cuts texts beyond ``context_length``; ``truncated`` counts the texts cut so far.

    ``fingerprint`` changes with everything that the tokens depend on.
    """

    context_length: int
    truncated: int
    fingerprint: str

    def __call__(self, texts: Sequence[str]) -> Tokens: ...
