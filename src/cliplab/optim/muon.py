"""Muon for the matrices of inner layers, AdamW for everything else."""

from collections.abc import Sequence

from timm.optim import Muon
from torch.optim import Optimizer

from cliplab.optim.param_groups import ParameterGroup
from cliplab.rules import Decay, NonNegative, Positive


def muon(
    params: list[ParameterGroup],
    /,
    *,
    lr: Positive,
    momentum: Decay,
    nesterov: bool,
    betas: Sequence[Decay],
    eps: NonNegative,
    weight_decay: NonNegative,
    fallback_lr_scale: Positive,
) -> Optimizer:
    """timm's Muon: groups of the role ``hidden`` get Muon, the others get AdamW at ``lr * fallback_lr_scale``.

    ``momentum`` and ``nesterov`` belong to Muon, ``betas`` to AdamW. Muon's updates are scaled to the size of AdamW's, so
    that one rate suits both (Liu et al. 2025, section 2.2). Source: Jordan et al. 2024, "Muon: an optimizer for hidden
    layers in neural networks".
    """
    groups = [{**group, "use_fallback": group["role"] != "hidden"} for group in params]
    return Muon(
        groups,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        betas=(betas[0], betas[1]),
        eps=eps,
        weight_decay=weight_decay,
        fallback_lr_scale=fallback_lr_scale,
        adjust_lr_fn="match_rms_adamw",
    )
