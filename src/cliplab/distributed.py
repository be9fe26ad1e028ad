"""Collectives that work with one process as with several, and the number of processes that read data for a rank."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cliplab.cores import usable_cores


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


MOST_WORKERS = 4  # processes that read data for one rank, unless a number is given


def worker_processes(asked: int | None) -> int:
    """The number of processes that read data for this rank: ``asked``, or else one for each core, at most four."""
    if asked is not None:
        return asked
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    return max(1, min(MOST_WORKERS, usable_cores() // ranks))


class _GatherWithGradient(torch.autograd.Function):
    """The rows of all ranks, in rank order. The gradient of a row is summed over ranks and returned to its rank."""

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
    """Join the rows ``[batch, ...]`` of all ranks to ``[world * batch, ...]``, with gradient if ``local`` has one.

    Every rank must have the same number of rows.
    """
    if world_size() == 1:
        return local
    if local.is_floating_point() and local.requires_grad:
        return _GatherWithGradient.apply(local)
    parts = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(parts, local.contiguous())
    return torch.cat(parts)


def summed(local: Tensor) -> Tensor:
    """The sum over ranks of tensors of one shape; the tensor itself on one rank."""
    return gather(local.unsqueeze(0)).sum(0, dtype=local.dtype) if world_size() > 1 else local


def pass_on(tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """Send tensors to the next rank of the ring of all ranks. What is returned waits for those of the rank before.

    Every rank must call it, with tensors of the same shapes and types. They must not be changed before the end of the wait.
    With one rank they are what comes back.
    """
    if world_size() == 1:
        return lambda: list(tensors)
    onward, back = (rank() + 1) % world_size(), (rank() - 1) % world_size()
    sent = [tensor.contiguous() for tensor in tensors]
    received = [torch.empty_like(tensor) for tensor in sent]
    sends = [dist.P2POp(dist.isend, tensor, onward, tag=tag) for tag, tensor in enumerate(sent)]
    receives = [dist.P2POp(dist.irecv, tensor, back, tag=tag) for tag, tensor in enumerate(received)]
    requests = dist.batch_isend_irecv([*sends, *receives])

    def arrived() -> list[Tensor]:
        for request in requests:
            request.wait()
        return received

    return arrived


def local_part(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, sharing its memory. A tensor that is not sharded is held whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def is_sharded(module: nn.Module) -> bool:
    """Whether ranks hold parts of the module's parameters."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all values together, the same on every rank. Sharded and whole tensors may be mixed; every rank
    must hold equal whole ones."""
    sharded = [local_part(tensor) for tensor in tensors if isinstance(tensor, DTensor)]
    norm = torch.nn.utils.get_total_norm([tensor for tensor in tensors if not isinstance(tensor, DTensor)])
    if not any(isinstance(tensor, DTensor) for tensor in tensors):
        return norm
    square = torch.nn.utils.get_total_norm(sharded).square()
    dist.all_reduce(square)
    return (norm.to(square.device).square() + square).sqrt()


def gather_objects(local: Any) -> list[Any]:
    """The objects of all ranks, in rank order. Use it rarely, and for small values."""
    if world_size() == 1:
        return [local]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, local)
    return gathered
