"""torch.compile of both towers."""

from types import MethodType
from typing import Any

import torch

from cliplab.models.clip import CLIP
from cliplab.models.encoders import ImageEncoder, TextEncoder


def compile_towers(model: CLIP) -> None:
    """Let each tower be one graph, compiled once for training whatever the lengths of the texts, and another one where an
    objective reads its states. It needs no value of the device when a batch brings ``Tokens.places``. Without gradients our
    text tower is not compiled: there texts share their beginnings, which follow the data. States are not compiled then."""
    model.image_encoder.compile()
    model.text_encoder.compile(dynamic=True)
    _compile_states(model.image_encoder)
    _compile_states(model.text_encoder, dynamic=True)


def _compile_states(tower: ImageEncoder | TextEncoder, dynamic: bool | None = None) -> None:
    """Compile ``forward_states``. It becomes a method of this tower, which a copy of the tower rebinds to itself."""
    plain = type(tower).forward_states
    compiled = torch.compile(plain, dynamic=dynamic)

    def forward_states(self: Any, inputs: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else plain)(self, inputs)

    tower.forward_states = MethodType(forward_states, tower)  # type: ignore[method-assign]
