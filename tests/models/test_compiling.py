"""torch.compile: one graph for each tower, the same values, and a step that waits for no value of the device."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from cliplab.models.clip import CLIP
from cliplab.models.compiling import compile_towers
from cliplab.models.modified_resnet import ModifiedResNet
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens
from cliplab.models.vision_transformer import VisionTransformer
from cliplab.objectives.contrastive import ClipLoss

LENGTHS = (9, 13, 7, 16)  # of the longest text of a batch


def vit() -> nn.Module:
    return VisionTransformer(image_size=16, patch_size=8, width=16, layers=1, heads=2, output_dim=8)


def resnet() -> nn.Module:
    return ModifiedResNet(image_size=32, layers=[1, 1, 1, 1], width=4, heads=2, output_dim=8)


def model(image: Callable[[], Any]) -> CLIP:
    torch.manual_seed(0)
    text = TextTransformer(vocab_size=60, context_length=16, width=16, layers=1, heads=2, output_dim=8)
    return CLIP(image_encoder=image(), text_encoder=text, embed_dim=8)


def batch(longest: int, size: int = 6) -> Tokens:
    lengths = torch.randint(3, longest + 1, (size,))
    lengths[0] = longest
    return Tokens(torch.randint(1, 60, (size, longest)), lengths).with_places()


@pytest.mark.parametrize("image", [vit, resnet])
def test_each_tower_is_one_graph_whatever_the_lengths_and_gives_the_same_values(
    image: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    counters.clear()
    plain, compiled = model(image), model(image)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    compile_towers(compiled)
    side = plain.image_encoder.image_size
    for longest in LENGTHS:
        images, tokens = torch.rand(6, 3, side, side), batch(longest)
        for side_by_side in (plain, compiled):
            encoded = side_by_side(images, tokens)
            (encoded.image_embeds * encoded.text_embeds).sum().backward()
        for (name, one), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None), name
            if one.grad is not None:
                torch.testing.assert_close(other.grad, one.grad, rtol=0, atol=0)
    assert counters["stats"]["unique_graphs"] == 2, "one of each tower"
    assert not counters["graph_break"]
    with torch.no_grad():
        tokens = batch(12)
        assert torch.equal(compiled.encode_text(tokens), plain.encode_text(tokens))
    assert counters["stats"]["unique_graphs"] == 2, "without gradients texts share their beginnings, uncompiled"


@pytest.mark.parametrize("image", [vit, resnet])
def test_states_are_one_graph_of_each_tower_with_the_same_values(
    image: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    counters.clear()
    plain, compiled = model(image), model(image)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    compile_towers(compiled)
    side = plain.image_encoder.image_size
    for longest in LENGTHS:
        images, tokens = torch.rand(6, 3, side, side), batch(longest)
        for side_by_side in (plain, compiled):
            encoded = side_by_side(images, tokens, {"image_states", "text_states"})
            (encoded.image_states.patches.sum() + (encoded.text_states.tokens**2).sum()).backward()
        for (name, one), other in zip(plain.named_parameters(), compiled.named_parameters(), strict=True):
            assert name == other[0]
            if one.grad is not None:
                torch.testing.assert_close(other[1].grad, one.grad, rtol=0, atol=0, msg=name)
    assert counters["stats"]["unique_graphs"] == 2, "one of each tower"
    assert not counters["graph_break"]
    copy = deepcopy(compiled)
    with torch.no_grad():
        next(copy.image_encoder.parameters()).add_(1)
        states = [x.image_encoder.forward_states(images).pooled for x in (plain, compiled, copy)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2]), "a copy reads its own weights"
    assert counters["stats"]["unique_graphs"] == 2, "without gradients states are not compiled"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("image", [vit, resnet])
def test_a_step_waits_for_no_value_of_the_device(
    image: Callable[[], Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fake tensors have no values: reading one raises. A backward pass needs a true GPU."""
    monkeypatch.setattr("cliplab.models.layers.has_packed_attention", lambda device: False)
    tokens = batch(9)
    with FakeTensorMode() as mode, torch.device(device):
        clip = model(image)
        images = torch.rand(6, 3, clip.image_size, clip.image_size)
        moved = Tokens(*(None if x is None else mode.from_tensor(x).to(device) for x in tokens))
        loss = ClipLoss()(clip(images, moved), None).loss  # type: ignore[arg-type]
        assert loss.device.type == device
        if device == "cpu":
            loss.backward()
            torch.optim.AdamW(clip.parameters(), fused=True).step()
        with pytest.raises(DataDependentOutputException):
            loss.item()
