"""Gradients of two processes, each with half of a batch, beside those of one process with the whole batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def group(number: int, ranks: int, folder: str) -> Iterator[None]:
    """A process group of gloo, which meets in ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=ranks)
    yield
    dist.destroy_process_group()


def save_average(gradients: Sequence[Tensor], folder: str, name: str) -> None:
    """Average over the ranks of the group; the first rank writes the result."""
    for gradient in gradients:
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    if dist.get_rank() == 0:
        torch.save(list(gradients), f"{folder}/{name}.pt")


def assert_average(folder: Path, name: str, alone: Sequence[Tensor], rtol: float, atol: float = 1e-6) -> None:
    """Compare what ``save_average`` wrote with the gradients of one process."""
    averaged = torch.load(folder / f"{name}.pt", weights_only=True)
    for a, b in zip(averaged, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")
