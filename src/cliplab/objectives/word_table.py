"""Vectors of words, into a decoder and out of it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cliplab.distributed import summed, world_size
from cliplab.models.tokens import Tokens

MOST_LOGITS = 2**26  # in one piece: 256 MB in float32


class WordTable(nn.Module):
    """One vector for each row of a vocabulary, which words enter and leave a decoder by, a bias for each, and positions.

    ``extra`` more vectors only enter, such as that of the start of a text.
    """

    def __init__(self, rows: int, width: int, positions: int, extra: int) -> None:
        super().__init__()
        self.rows = rows
        self.words, self.positions = nn.Embedding(rows + extra, width), nn.Embedding(positions, width)
        self.bias = nn.Parameter(torch.zeros(rows))
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.01)

    def enter(self, rows: Int[Tensor, " *shape"], positions: Int[Tensor, " *shape"]) -> Float[Tensor, " *shape width"]:
        return self.words(rows) + self.positions(positions)

    def logits(self, x: Float[Tensor, " *shape width"]) -> Float[Tensor, " *shape rows"]:
        return F.linear(x, self.words.weight[: self.rows], self.bias)

    def logits_of(self, x: Float[Tensor, " *shape width"], rows: Int[Tensor, " last"]) -> Float[Tensor, " *shape"]:
        """The logit of one word for each state of the last dimension but one."""
        return (x * self.words.weight[rows]).sum(-1) + self.bias[rows]


class OutputLayer(nn.Module):
    """Vectors that words leave a decoder by, without a bias (Yu et al. 2022)."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = rows
        self.weight = nn.Parameter(torch.empty(rows, width))
        nn.init.normal_(self.weight, std=width**-0.5)

    def logits(self, x: Float[Tensor, " *shape width"]) -> Float[Tensor, " *shape rows"]:
        return F.linear(x, self.weight)

    def logits_of(self, x: Float[Tensor, " *shape width"], rows: Int[Tensor, " last"]) -> Float[Tensor, " *shape"]:
        """See ``WordTable``."""
        return (x * self.weight[rows]).sum(-1)


def _piece(table: WordTable | OutputLayer, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = table.logits(x).float()
    hits = (logits.detach().argmax(-1) == targets).sum()
    return F.cross_entropy(logits, targets, reduction="sum"), hits


def word_loss(
    table: WordTable | OutputLayer, x: Float[Tensor, "total width"], targets: Int[Tensor, " total"]
) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy of the words of all ranks, and the share of those that were the likeliest.

    A rank returns its part of the mean times the number of ranks, so that the mean over ranks is that of all words. Many
    logits are made in pieces, and again for the gradient, so that they never are in memory together.
    """
    size = max(1, MOST_LOGITS // table.rows)
    pieces = list(zip(x.split(size), targets.split(size), strict=True))
    if len(pieces) <= 1:
        loss, hits = _piece(table, x, targets)
    else:
        parts = [checkpoint(_piece, table, *piece, use_reentrant=False) for piece in pieces]
        loss, hits = (torch.stack(column).sum() for column in zip(*parts, strict=True))
    count = summed(torch.tensor(float(len(targets)), device=x.device)).clamp(min=1) / world_size()
    return loss / count, hits / count


def started(words: Tokens, start: int) -> Tokens:
    """What a decoder reads to write ``words``: the start, and every word but the last."""
    return Tokens(F.pad(words.ids[:, :-1], (1, 0), value=start), words.lengths)
