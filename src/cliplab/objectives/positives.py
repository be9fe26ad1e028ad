"""Which pairs of a block of the logits belong together."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cliplab.distributed import gather, rank


class Block(NamedTuple):
    """Logits ``[rows, columns]``, which rows of this rank they are of, and which columns of the rank ``owner``. Each rank
    has ``share`` rows and as many columns."""

    logits: Tensor
    rows: slice
    columns: slice
    owner: int
    share: int

    @property
    def first_row(self) -> int:
        """Its place among the rows of all ranks."""
        return rank() * self.share + self.rows.start

    @property
    def first_column(self) -> int:
        """Its place among the columns of all ranks."""
        return self.owner * self.share + self.columns.start

    @property
    def has_own_pairs(self) -> bool:
        """Whether its diagonal has the rows' own columns. No other block has any."""
        return self.owner == rank() and self.rows == self.columns


class OwnPairs:
    """The only positive of a row is its own column."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.places = torch.arange(rows, device=device) + rank() * rows

    def positives(self, block: Block) -> Bool[Tensor, "rows columns"] | None:
        """None where a block has none."""
        if not block.has_own_pairs:
            return None
        return torch.eye(len(block.logits), dtype=torch.bool, device=block.logits.device)

    def hidden(self, block: Block) -> Bool[Tensor, "rows columns"] | None:
        """Which pairs count neither as positives nor as negatives; None where there are none."""
        return None

    def shares(self, dtype: torch.dtype) -> Float[Tensor, " rows"]:
        """The weight of each positive of a row. Those of one row add up to 1."""
        return torch.ones_like(self.places, dtype=dtype)

    def right(self, found: Int[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Whether a row's best column, by its place among those of all ranks, is a positive."""
        return found == self.places


class Groups:
    """Which pairs show the same thing. ``own`` is int64 ``[rows]``; every rank must have as many."""

    def __init__(self, own: Int[Tensor, " rows"]) -> None:
        self.own, self.everyone = own, gather(own)

    def same(self, block: Block) -> Bool[Tensor, "rows columns"]:
        others = self.everyone[block.first_column :][: block.logits.shape[1]]
        return self.own[block.rows].unsqueeze(1) == others.unsqueeze(0)

    def sizes(self) -> Int[Tensor, " rows"]:
        """How many of all pairs are in the row's group."""
        ordered = self.everyone.sort().values
        return torch.searchsorted(ordered, self.own, right=True) - torch.searchsorted(ordered, self.own)


class JointPairs(OwnPairs):
    """All columns of the row's group are positives."""

    def __init__(self, groups: Int[Tensor, " rows"]) -> None:
        super().__init__(len(groups), groups.device)
        self.groups = Groups(groups)

    def positives(self, block: Block) -> Tensor | None:
        return self.groups.same(block)

    def shares(self, dtype: torch.dtype) -> Tensor:
        return 1 / self.groups.sizes().to(dtype)

    def right(self, found: Tensor) -> Tensor:
        return self.groups.everyone[found] == self.groups.own


class HiddenPairs(OwnPairs):
    """The own column is the positive, and the other columns of its group are hidden."""

    def __init__(self, groups: Int[Tensor, " rows"]) -> None:
        super().__init__(len(groups), groups.device)
        self.groups = Groups(groups)

    def hidden(self, block: Block) -> Tensor | None:
        same, own = self.groups.same(block), self.positives(block)
        return same if own is None else same & ~own
