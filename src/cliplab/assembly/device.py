"""Choose the device and the precision of a model."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from cliplab.models.precision import fast_in_bf16


def one_device(accelerator: str) -> torch.device:
    """The device for ``trainer.accelerator``; the CPU if there is no such device."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def in_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a forward pass in this precision: autocast for ``16-mixed`` and ``bf16-mixed``, as a trainer uses."""
    kinds = {"bf16-mixed": torch.bfloat16, "bf16": torch.bfloat16, "16-mixed": torch.float16, "16": torch.float16}
    kind = kinds.get(str(precision))
    return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind, cache_enabled=False)


def choose_precision(precision: Any, accelerator: str) -> Any:
    """Replace ``auto`` by bf16-mixed on a device that is fast in it (GPUs since Ampere, AMX, AVX512-BF16), or by 32-true."""
    if precision != "auto":
        return precision
    device = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    return "bf16-mixed" if fast_in_bf16(device) else "32-true"
