"""Features of texts that a frozen encoder has already seen."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cliplab.models.tokens import Tokens

ROWS = 32


class FeatureCache:
    """Keeps the features of up to ``limit`` distinct texts.

    They are computed in batches of ``ROWS`` texts of one length. So the features of a text do not depend on the other texts
    of its batch or on the content of the cache, and a resumed run gets the same bits.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.clear()

    def clear(self) -> None:
        self.rows: dict[tuple[int, ...], int] = {}
        self.store: Tensor | None = None

    def __call__(self, tokens: Tokens, encode: Callable[[Tokens], Tensor]) -> Float[Tensor, "batch width"]:
        device = tokens.ids.device
        if self.store is not None and self.store.device != device:
            self.clear()
        lengths = tokens.lengths.tolist()
        keys = [tuple(row[:n]) for row, n in zip(tokens.ids.tolist(), lengths, strict=True)]
        fresh = self._encode([key for key in dict.fromkeys(keys) if key not in self.rows], encode, device)
        self._keep(fresh)
        if all(key in self.rows for key in keys):
            assert self.store is not None
            return self.store[torch.tensor([self.rows[key] for key in keys], device=device)]
        return torch.stack([fresh[key] if key in fresh else self.store[self.rows[key]] for key in keys])  # type: ignore[index]

    @staticmethod
    def _encode(
        texts: list[tuple[int, ...]], encode: Callable[[Tokens], Tensor], device: torch.device
    ) -> dict[tuple[int, ...], Tensor]:
        features: dict[tuple[int, ...], Tensor] = {}
        for length in sorted({len(text) for text in texts}):
            alike = [text for text in texts if len(text) == length]
            for start in range(0, len(alike), ROWS):
                chunk = alike[start : start + ROWS]
                ids = torch.tensor(chunk + chunk[:1] * (ROWS - len(chunk)), device=device)
                with torch.no_grad():
                    output = encode(Tokens(ids, torch.full((ROWS,), length, device=device)))
                features.update(zip(chunk, output, strict=False))
        return features

    def _keep(self, fresh: dict[tuple[int, ...], Tensor]) -> None:
        new = list(fresh)[: self.limit - len(self.rows)]
        if not new:
            return
        with torch.inference_mode(False):  # what an evaluation computed may be used by a training step
            if self.store is None:
                like = fresh[new[0]]
                self.store = torch.zeros(self.limit, len(like), dtype=like.dtype, device=like.device)
        first = len(self.rows)
        self.store[first : first + len(new)] = torch.stack([fresh[key] for key in new])
        self.rows.update({key: first + i for i, key in enumerate(new)})
