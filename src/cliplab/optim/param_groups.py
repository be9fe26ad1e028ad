"""Which parameters decay, and which train at a rate of their own."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn


def param_groups(
    model: nn.Module,
    weight_decay: float,
    scales: Mapping[nn.Parameter, float] | None = None,
    later: Collection[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Groups for AdamW: matrices decay; gains, biases, the class token, scale and bias (fewer than two dimensions) do not.
    Radford et al. 2021, section 2.5.

    Two groups for every rate: the optimizer's own first, then those of ``scales``, highest first, which say so in
    ``lr_scale``. Frozen parameters are left out, unless ``later`` names them.
    """
    scales = scales or {}
    parameters = [p for p in model.parameters() if p.requires_grad or p in later]
    others = sorted({scales.get(p, 1.0) for p in parameters} - {1.0}, reverse=True)
    groups: list[dict[str, Any]] = []
    for scale in (1.0, *others):
        members = [p for p in parameters if scales.get(p, 1.0) == scale]
        extra = {} if scale == 1.0 else {"lr_scale": scale}
        groups.append({"params": [p for p in members if p.ndim >= 2], "weight_decay": weight_decay, **extra})
        groups.append({"params": [p for p in members if p.ndim < 2], "weight_decay": 0.0, **extra})
    return groups
