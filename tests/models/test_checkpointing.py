"""Activation checkpointing changes memory alone: values, gradients and running statistics stay the same to the bit."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from cliplab.models.checkpointing import checkpoint_layers
from cliplab.models.vision_transformer import VisionTransformer

from .test_states import IMAGE_TOWERS, SIZES, TEXT_TOWERS, TOKENS

CHOSEN = (
    "vit",
    "resnet",
    "siglip",
    "timm test_vit",
    "timm test_resnet",
    "timm test_convnext",
    "hf dinov2",
    "hf resnet",
)
MAKERS: dict[str, Callable[[], Any]] = {
    **{name: make for name, (make, _) in IMAGE_TOWERS.items() if name in CHOSEN},
    **{f"text {name}": make for name, make in TEXT_TOWERS.items()},
}


def trained(tower: Any) -> tuple[list[Tensor], int]:
    """Value, gradients and buffers after one pass, and how many bytes are kept for the backward pass."""
    torch.manual_seed(3)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    size = getattr(tower, "image_size", 0)
    inputs = torch.randn(4, 3, size, size) if size else TOKENS
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        value = tower(inputs)
    value.square().sum().backward()
    gradients = [p.grad for p in tower.parameters() if p.grad is not None]
    assert gradients
    return [value.detach(), *gradients, *tower.buffers()], sum(kept.values())


def same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", MAKERS)
def test_values_gradients_and_statistics_stay_the_same_to_the_bit(name: str) -> None:
    torch.manual_seed(0)
    plain = MAKERS[name]().train()  # with dropout, where the model has it
    checkpointed = copy.deepcopy(plain)
    names = list(checkpointed.state_dict())
    assert checkpointed.layers()
    checkpoint_layers(checkpointed.layers(), every=1)
    assert list(checkpointed.state_dict()) == names
    copied = copy.deepcopy(checkpointed)  # a copy checkpoints its own layers
    (ours, less), (theirs, more) = trained(checkpointed), trained(plain)
    assert same(ours, theirs)
    assert less < more
    assert same(trained(copied)[0], theirs)


def test_every_second_layer_keeps_more_than_every_layer() -> None:
    bytes_kept = []
    for every in (1, 2, 0):
        torch.manual_seed(0)
        tower = VisionTransformer(image_size=32, patch_size=8, **SIZES | {"layers": 4})
        checkpoint_layers(tower.layers()[: 4 if every else 0], every or 1)
        bytes_kept.append(trained(tower)[1])
    assert bytes_kept == sorted(bytes_kept)
    assert len(set(bytes_kept)) == 3


def test_a_layer_that_no_gradient_reaches_is_not_computed_again() -> None:
    tower = VisionTransformer(image_size=32, patch_size=8, **SIZES)
    first, second = tower.layers()
    calls = {first: 0, second: 0}

    def count(module: nn.Module, *_: Any) -> None:
        calls[module] += 1

    for layer in calls:
        layer.ln_1.register_forward_hook(lambda *_, layer=layer: count(layer))  # type: ignore[operator]
    checkpoint_layers(tower.layers(), every=1)
    for parameter in [p for group in tower.layer_groups()[:2] for p in group]:
        parameter.requires_grad = False
    images = torch.randn(2, 3, 32, 32)
    tower(images).sum().backward()
    assert list(calls.values()) == [1, 2]
    with torch.no_grad():
        tower(images)
    assert list(calls.values()) == [2, 3]
