"""Which way of computing the same a tower takes: that of the device of its tensors, or of a GPU that is traced on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_traced: list[bool] = []  # whether the GPU has attention over packed texts


@contextmanager
def traced_as_gpu(*, packed: bool) -> Iterator[None]:
    """Tensors on the CPU take the operations of a GPU, ``packed`` those of one from Ampere on. Some of them have no values
    on a CPU: for tensors without values only."""
    _traced.append(packed)
    try:
        yield
    finally:
        _traced.pop()


def is_gpu(device: torch.device) -> bool:
    return device.type == "cuda" or bool(_traced)


def has_packed_attention(device: torch.device) -> bool:
    """Whether PyTorch's attention over texts of various lengths runs there: NVIDIA's GPUs from Ampere on."""
    if _traced:
        return _traced[-1]
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
