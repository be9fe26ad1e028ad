"""The tokens of texts, and the interface of a tokenizer."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def real_columns(lengths: Int[Tensor, " batch"], columns: int) -> Bool[Tensor, "batch columns"]:
    """Which of so many columns hold tokens of each text, and not padding."""
    return torch.arange(columns, device=lengths.device) < lengths.unsqueeze(1)


class Tokens(NamedTuple):
    """Token ids padded only to the longest text of the batch; ``lengths`` count the start and end tokens too.

    ``places`` are the positions of real tokens in the flattened ids. Their number is known only after counting, so a batch
    for training brings them along from the CPU: a GPU would have to be waited for. Elsewhere they are None.
    """

    ids: Int[Tensor, "batch length"]
    lengths: Int[Tensor, " batch"]
    places: Int[Tensor, " total"] | None = None  # type: ignore[assignment]

    def to(self, device: torch.device | str) -> "Tokens":
        """Move to a device. The program does not wait for a copy to a GPU."""
        to_gpu = torch.device(device).type == "cuda"
        return Tokens(*(None if x is None else x.to(device, non_blocking=to_gpu) for x in self))  # type: ignore[arg-type]

    def with_places(self) -> "Tokens":
        return self._replace(places=self.real_places())

    def real_places(self) -> Int[Tensor, " total"]:
        """``places``, counted now where nobody has counted them before."""
        if self.places is not None:
            return self.places
        return real_columns(self.lengths, self.ids.shape[1]).flatten().nonzero().squeeze(1)


class Tokenizer(Protocol):
    """Turns texts into Tokens. It cuts texts beyond ``context_length``; ``truncated`` counts the texts cut so far.

    ``fingerprint`` changes with everything that the tokens depend on.
    """

    context_length: int
    truncated: int
    fingerprint: str

    def __call__(self, texts: Sequence[str]) -> Tokens: ...

    def text(self, ids: Sequence[int]) -> str: ...
