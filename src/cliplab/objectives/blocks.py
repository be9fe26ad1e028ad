"""Contrastive losses in blocks: no more than a block of the logits in memory, forward and backward, on any number of ranks.

The rows of a rank (its images, times the scale) stay where they are. The columns (texts) of all ranks come by in a ring, one
rank's at a time, and with them what is known so far of their own sums; in the backward pass, their gradient. So a rank holds
the columns of two ranks at most, each logit is computed once forward and once backward, and both directions of the loss come
from it. Values and gradients are those of the losses over all logits at once, up to rounding.

Sources: Cheng et al. 2024, "Breaking the memory barrier: near infinite batch size scaling for contrastive loss" (softmax);
Zhai et al. 2023, section 3.3 (sigmoid). Their kernels, and those of the packages ``inf-cl`` 1.2.1 and ``memeff`` 0.3.1, run
on CUDA alone, multiply in TF32, and know neither groups nor accuracies; memeff's has no gradient for the scale either. What
follows is plain torch, for every device and type.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cliplab.distributed import pass_on, rank, world_size
from cliplab.objectives.positives import Block, OwnPairs

LOWEST = float("-inf")


class Best(NamedTuple):
    """The highest logit so far of each line (row or column), and its place among all; of equal ones the first."""

    logit: Float[Tensor, " lines"]
    place: Int[Tensor, " lines"]

    @classmethod
    def of_none(cls, like: Tensor) -> "Best":
        lines = len(like)
        return cls(like.new_full((lines,), LOWEST), torch.full((lines,), -1, device=like.device))

    def add(self, part: slice, logits: Tensor, dim: int, first: int) -> None:
        """The lines ``part`` meet further logits along ``dim``, the first of them at the place ``first``."""
        logit, place = logits.max(dim)
        place += first
        known, there = self.logit[part], self.place[part]
        better = (logit > known) | ((logit == known) & (place < there))
        there.copy_(torch.where(better, place, there))
        torch.maximum(known, logit, out=known)


class Sums(NamedTuple):
    """Of each line so far: its best logit, the sum of ``exp(logit - best)``, and the sum of its positives' logits."""

    logit: Float[Tensor, " lines"]
    place: Int[Tensor, " lines"]
    total: Float[Tensor, " lines"]
    positive: Float[Tensor, " lines"]

    @classmethod
    def of_none(cls, like: Tensor) -> "Sums":
        return cls(*Best.of_none(like), *(like.new_zeros(len(like)) for _ in range(2)))

    def add(self, part: slice, logits: Tensor, dim: int, first: int, of_positives: Tensor | None) -> None:
        """As ``Best.add``; ``of_positives`` are the logits with 0 for all but positives, or None where there are none."""
        before = self.logit[part].clone()
        Best(self.logit, self.place).add(part, logits, dim, first)
        best = self.logit[part]
        best = best.masked_fill(best == LOWEST, 0)  # where all are hidden so far
        further = (logits - best.unsqueeze(dim)).exp_().sum(dim)
        self.total[part].mul_((before - best).exp_()).add_(further)
        if of_positives is not None:
            self.positive[part].add_(of_positives.sum(dim))

    def log(self) -> Float[Tensor, " lines"]:
        """The logarithm of the sum of the exponentials."""
        return self.logit + self.total.log()

    def cross_entropy(self, shares: Tensor) -> Float[Tensor, " lines"]:
        return self.total.log() + (self.logit - self.positive * shares)


def _visits(columns: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The columns of every rank, this one's first, with the number of the rank."""
    ranks = world_size()
    for step in range(ranks):
        coming = pass_on([columns]) if step + 1 < ranks else None
        yield (rank() - step) % ranks, columns
        if coming is not None:
            [columns] = coming()


def _blocks(rows: Tensor, columns: Tensor, owner: int, size: int) -> Iterator[Block]:
    parts = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    for row_part in parts:
        for column_part in parts:
            yield Block(rows[row_part] @ columns[column_part].T, row_part, column_part, owner, len(rows))


class _CrossEntropies(torch.autograd.Function):
    """Of each local row and of each local column its cross-entropy ``[B]``, and the place of its best logit ``[B]``."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, pairs: OwnPairs, size: int) -> tuple[Tensor, ...]:  # type: ignore[override]
        by_row, by_column = Sums.of_none(rows), Sums.of_none(columns)
        for owner, there in _visits(columns):
            for block in _blocks(rows, there, owner, size):
                _hide(block, pairs)
                positives = pairs.positives(block)
                chosen = None if positives is None else torch.where(positives, block.logits, 0)
                by_row.add(block.rows, block.logits, 1, block.first_column, chosen)
                by_column.add(block.columns, block.logits, 0, block.first_row, chosen)
            by_column = Sums(*pass_on(by_column)())
        shares = pairs.shares(rows.dtype)
        ctx.pairs, ctx.size = pairs, size
        ctx.save_for_backward(rows, columns, by_row.log(), by_column.log(), shares)
        ctx.mark_non_differentiable(by_row.place, by_column.place)
        return by_row.cross_entropy(shares), by_column.cross_entropy(shares), by_row.place, by_column.place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_rows: Tensor, of_columns: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, columns, row_log, column_log, shares = ctx.saved_tensors
        gradients = _Gradients(ctx, rows, columns)
        travelling = [column_log, of_columns.contiguous()]
        for owner, there in _visits(columns):
            there_log, of_there = travelling
            for block in _blocks(rows, there, owner, ctx.size):
                _hide(block, ctx.pairs)
                logits, r, c = block.logits, block.rows, block.columns
                by_row, by_column = of_rows[r].unsqueeze(1), of_there[c]
                gradient = (logits - row_log[r].unsqueeze(1)).exp_().mul_(by_row)
                gradient += logits.sub_(there_log[c]).exp_().mul_(by_column)
                positives = ctx.pairs.positives(block)
                if positives is not None:
                    gradient -= positives * shares[r].unsqueeze(1) * (by_row + by_column)
                gradients.add(block, gradient, rows, there)
            travelling = pass_on(travelling)()
            gradients.pass_on()
        return gradients.rows, gradients.columns, None, None


class _Sigmoids(torch.autograd.Function):
    """Of each local row its sum of pairwise losses ``[B]``, and of each local row and column the place of its best logit."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, bias: Tensor, size: int) -> tuple[Tensor, ...]:  # type: ignore[override]
        by_row, by_column = Best.of_none(rows), Best.of_none(columns)
        losses = rows.new_zeros(len(rows))
        for owner, there in _visits(columns):
            for block in _blocks(rows, there, owner, size):
                by_row.add(block.rows, block.logits, 1, block.first_column)
                by_column.add(block.columns, block.logits, 0, block.first_row)
                losses[block.rows] -= F.logsigmoid(_signed(block, bias)).sum(1)
            by_column = Best(*pass_on(by_column)())
        ctx.size = size
        ctx.save_for_backward(rows, columns, bias)
        ctx.mark_non_differentiable(by_row.place, by_column.place)
        return losses, by_row.place, by_column.place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_rows: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, columns, bias = ctx.saved_tensors
        gradients, of_bias = _Gradients(ctx, rows, columns), torch.zeros_like(bias)
        for owner, there in _visits(columns):
            for block in _blocks(rows, there, owner, ctx.size):
                gradient = _signed(block, bias).neg_().sigmoid_()
                if block.has_own_pairs:
                    gradient.diagonal().neg_()
                gradient *= of_rows[block.rows].unsqueeze(1)
                of_bias += gradient.sum()
                gradients.add(block, gradient, rows, there)
            gradients.pass_on()
        return gradients.rows, gradients.columns, of_bias, None


class _Gradients:
    """Of the rows, and of the columns that are there now; None for what needs none."""

    def __init__(self, ctx: Any, rows: Tensor, columns: Tensor) -> None:
        needed = ctx.needs_input_grad
        self.rows = torch.zeros_like(rows) if needed[0] else None
        self.columns = torch.zeros_like(columns) if needed[1] else None

    def add(self, block: Block, gradient: Tensor, rows: Tensor, columns: Tensor) -> None:
        """``gradient`` is that of the logits of the block."""
        if self.rows is not None:
            self.rows[block.rows].addmm_(gradient, columns[block.columns])
        if self.columns is not None:
            self.columns[block.columns].addmm_(gradient.T, rows[block.rows])

    def pass_on(self) -> None:
        if self.columns is not None:
            [self.columns] = pass_on([self.columns])()


def _hide(block: Block, pairs: OwnPairs) -> None:
    hidden = pairs.hidden(block)
    if hidden is not None:
        block.logits.masked_fill_(hidden, LOWEST)


def _signed(block: Block, bias: Tensor) -> Tensor:
    """The logits with the bias, negative for pairs that do not belong together. Changes the block."""
    signed = block.logits.add_(bias).neg_()
    if block.has_own_pairs:
        signed.diagonal().neg_()
    return signed


class Compared(NamedTuple):
    """Of this rank's share: the loss by image and the loss by text, and the shares of right best matches."""

    by_image: Float[Tensor, ""]
    by_text: Float[Tensor, ""]
    image_accuracy: Float[Tensor, ""]
    text_accuracy: Float[Tensor, ""]


def cross_entropies(images: Tensor, texts: Tensor, pairs: OwnPairs, size: int) -> Compared:
    """Mean cross-entropies of the logits ``images @ texts.T`` of all ranks, in blocks of ``size`` by ``size``.

    Every rank must have the same number of pairs ``[B, D]``.
    """
    of_rows, of_columns, best_column, best_row = _CrossEntropies.apply(images, texts, pairs, size)
    hits = [pairs.right(best).float().mean() for best in (best_column, best_row)]
    return Compared(of_rows.mean(), of_columns.mean(), *hits)


def sigmoids(images: Tensor, texts: Tensor, bias: Tensor, size: int) -> Compared:
    """The same of the pairwise sigmoid loss, whose two directions are one."""
    losses, best_column, best_row = _Sigmoids.apply(images, texts, bias, size)
    pairs = OwnPairs(len(images), images.device)
    hits = [pairs.right(best).float().mean() for best in (best_column, best_row)]
    return Compared(losses.mean(), losses.mean(), *hits)
