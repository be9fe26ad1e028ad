"""Muon for the matrices of inner layers, AdamW for everything else."""

from collections.abc import Callable
from typing import Any

import torch
from timm.optim.muon import zeropower_via_newtonschulz
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from cliplab.models.precision import fast_in_bf16
from cliplab.optim.param_groups import ParameterGroup
from cliplab.rules import Count, Decay, NonNegative, Positive

# One line for each iteration: Cesista, Jiacheng and Jordan 2025, "Squeezing 1-2% efficiency gains out of Muon".
COEFFICIENTS = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


class Muon(Optimizer):
    """Groups of the role ``hidden`` get Muon at ``lr * hidden_lr_scale``; the others get AdamW at ``lr``.

    ``momentum`` and ``nesterov`` belong to Muon, ``betas`` to AdamW. Muon's updates are scaled to the size of AdamW's, so
    that one schedule suits both (Liu et al. 2025, section 2.2). Matrices of one shape are orthogonalised together by timm's
    Newton-Schulz iteration, ``ns_steps`` times, in bfloat16 where the device is fast in it and in float32 elsewhere.
    Raises ValueError for a value out of range. Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural
    networks".
    """

    def __init__(
        self,
        params: list[ParameterGroup],
        /,
        *,
        lr: Positive,
        momentum: Decay,
        nesterov: bool,
        ns_steps: Count,
        betas: tuple[Decay, Decay],
        eps: NonNegative,
        weight_decay: NonNegative,
        hidden_lr_scale: Positive,
    ) -> None:
        if not eps >= 0:
            raise ValueError(f"eps {eps} must be 0 or more")
        settings = {
            "lr": lr, "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps, "betas": tuple(betas),
            "eps": eps, "weight_decay": weight_decay, "hidden_lr_scale": hidden_lr_scale,
        }  # fmt: skip
        super().__init__([dict(group) for group in params], settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["role"] == "hidden":
                self._step_matrices(group, parameters)
            elif parameters:
                self._step_others(group, parameters)
        return loss

    def _step_matrices(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        rate = group["lr"] * group["hidden_lr_scale"]
        together: dict[tuple[Any, ...], list[tuple[nn.Parameter, Tensor]]] = {}
        for p in parameters:
            update = self._momentum(group, p).flatten(1)  # a convolution's kernel is a matrix, too
            wide = update if update.shape[0] <= update.shape[1] else update.T
            together.setdefault((wide.shape, p.device), []).append((p, wide))
        for (_, device), members in together.items():
            dtype = torch.bfloat16 if fast_in_bf16(device.type) else torch.float32
            stacked = torch.stack([update for _, update in members])  # [matrices, rows, columns]
            made = zeropower_via_newtonschulz(stacked, group["ns_steps"], COEFFICIENTS, eps=group["eps"], dtype=dtype)
            scale = 0.2 * max(stacked.shape[1:]) ** 0.5  # AdamW's updates have about this size
            for (p, _), wide in zip(members, made, strict=True):
                update = wide if len(wide) == len(p) else wide.T
                p.mul_(1 - rate * group["weight_decay"])
                p.add_(update.to(p.dtype).reshape(p.shape), alpha=-rate * scale)

    def _momentum(self, group: dict[str, Any], p: nn.Parameter) -> Tensor:
        assert p.grad is not None
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        buffer = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
        return p.grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer

    def _step_others(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        for p in parameters:
            if "step" not in self.state[p]:
                zeros = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                self.state[p] = {"step": torch.zeros((), device=p.device), **zeros}
        states = [self.state[p] for p in parameters]
        adamw(
            list(parameters),
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
