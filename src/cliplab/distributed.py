"""Collectives that behave on one process as on many."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _GatherWithGradient(torch.autograd.Function):
    """All ranks' rows, in rank order; the gradient of a row is summed over ranks and goes home."""

    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:  # type: ignore[override]
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        ctx.rows = local.shape[0]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.rows :][: ctx.rows]


def gather(local: Tensor) -> Tensor:
    """Rows ``[batch, ...]`` of every rank joined to ``[world * batch, ...]``, with gradient where there is one.

    Every rank must bring the same number of rows.
    """
    if world_size() == 1:
        return local
    if local.is_floating_point() and local.requires_grad:
        return _GatherWithGradient.apply(local)
    parts = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(parts, local.contiguous())
    return torch.cat(parts)


def gather_objects(local: Any) -> list[Any]:
    """What every rank brings, in rank order. For small plain values, now and then."""
    if world_size() == 1:
        return [local]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, local)
    return found
