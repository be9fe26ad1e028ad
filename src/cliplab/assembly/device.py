"""Choose the device and the precision of a model."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


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
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return "bf16-mixed" if fast else "32-true"
