"""The device and the precision that a model works in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def one_device(accelerator: str) -> torch.device:
    """The device of ``trainer.accelerator``; a CPU where there is none."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def in_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """What a trainer of this precision would compute the forward pass in: ``16-mixed`` and ``bf16-mixed`` by autocast."""
    kinds = {"bf16-mixed": torch.bfloat16, "bf16": torch.bfloat16, "16-mixed": torch.float16, "16": torch.float16}
    kind = kinds.get(str(precision))
    return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind, cache_enabled=False)


def choose_precision(precision: Any, accelerator: str) -> Any:
    """``auto`` becomes bf16-mixed where the device does it well (Hopper to Ampere, AMX, AVX512-BF16), else 32-true."""
    if precision != "auto":
        return precision
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return "bf16-mixed" if fast else "32-true"
