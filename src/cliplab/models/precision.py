"""Which devices compute fast in bfloat16."""

import torch


def fast_in_bf16(device: str) -> bool:
    """Whether a device of this type (``cpu``, ``cuda``, …) has instructions for bfloat16: GPUs since Ampere, processors
    with AMX or AVX512-BF16. Others emulate it, up to twenty times slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
