"""Named groups of parameters: what an optimizer is built from."""

import itertools
from collections.abc import Collection, Mapping
from typing import Literal, NotRequired, Protocol, TypedDict, runtime_checkable

from torch import nn
from torch.optim import Optimizer

from cliplab.models.clip import CLIP
from cliplab.models.encoders import LayeredModule

Role = Literal["hidden", "outer", "vectors"]
ROLES: tuple[Role, ...] = ("outer", "hidden", "vectors")


class ParameterGroup(TypedDict):
    """Parameters of one part and one role that train at one rate.

    ``name`` is ``<part>.<role>``, followed by ``@<lr_scale>`` where that is not 1. The roles are:

    - ``hidden``: matrices of inner layers.
    - ``outer``: matrices of the first and the last layer (embeddings, projections), and all matrices of a part that has
      fewer than three layer groups.
    - ``vectors``: gains, biases, scalars and class tokens (see ``is_vector``). They do not decay (Radford et al. 2021,
      section 2.5): ``weight_decay`` is 0. The other roles leave it out and get the optimizer's value.

    ``lr_scale`` is the group's share of the optimizer's rate.
    """

    params: list[nn.Parameter]
    name: str
    role: Role
    lr_scale: float
    weight_decay: NotRequired[float]


@runtime_checkable
class OptimizerRecipe(Protocol):
    """Makes an optimizer from parameter groups: an optimizer class with every other argument filled in by a config."""

    def __call__(self, params: list[ParameterGroup], /) -> Optimizer: ...


def is_vector(parameter: nn.Parameter) -> bool:
    """Whether a parameter has fewer than two dimensions. A class token of timm and transformers, ``[1, 1, width]``, is a
    vector too, as ours is."""
    return parameter.ndim < 2 or (parameter.ndim > 2 and parameter.numel() == parameter.shape[-1])


def _parts(model: CLIP, objective: LayeredModule) -> dict[str, list[nn.Parameter]]:
    """The parameters of the joint space itself (scale and bias), of each tower and of the objective."""
    in_towers = {*model.image_encoder.parameters(), *model.text_encoder.parameters()}
    return {
        "model": [parameter for parameter in model.parameters() if parameter not in in_towers],
        "image_encoder": list(model.image_encoder.parameters()),
        "text_encoder": list(model.text_encoder.parameters()),
        "objective": list(objective.parameters()),
    }


def parameter_groups(
    model: CLIP,
    objective: LayeredModule,
    *,
    lr_scales: Mapping[nn.Parameter, float] | None = None,
    frozen_for_now: Collection[nn.Parameter] = (),
) -> list[ParameterGroup]:
    """The groups that have parameters.

    They are sorted by rate (first ``lr_scale`` 1, then from the highest to the lowest), then by role (outer, hidden,
    vectors), then by part: ``model`` (scale and bias), ``image_encoder``, ``text_encoder``, ``objective``. Frozen
    parameters are left out unless they are in ``frozen_for_now``.
    """
    lr_scales = lr_scales or {}
    layered = (model.image_encoder, model.text_encoder, objective)
    inner = {p for module in layered for layer in module.layer_groups()[1:-1] for p in layer}
    members: dict[tuple[float, Role, str], list[nn.Parameter]] = {}
    parts = _parts(model, objective)
    for part, parameters in parts.items():
        for p in parameters:
            if p.requires_grad or p in frozen_for_now:
                role: Role = "vectors" if is_vector(p) else "hidden" if p in inner else "outer"
                members.setdefault((lr_scales.get(p, 1.0), role, part), []).append(p)
    rates = sorted({rate for rate, _, _ in members}, key=lambda rate: (rate != 1.0, -rate))
    every = itertools.product(rates, ROLES, parts)
    return [_group(members[key], *key) for key in every if key in members]


def _group(parameters: list[nn.Parameter], rate: float, role: Role, part: str) -> ParameterGroup:
    name = f"{part}.{role}" + ("" if rate == 1.0 else f"@{rate:.9g}")
    group = ParameterGroup(params=parameters, name=name, role=role, lr_scale=rate)
    return group if role != "vectors" else {**group, "weight_decay": 0.0}


def build_optimizer(recipe: OptimizerRecipe, groups: list[ParameterGroup]) -> Optimizer:
    """The recipe's optimizer over these groups. Each group's rate is the recipe's times ``lr_scale``."""
    optimizer = recipe(groups)
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_scale", 1.0)  # an optimizer may add groups
    return optimizer
