"""Locks: what changes in a step, which modes hold, and which rates each group gets."""

from functools import partial

import pytest
import torch
from torch import nn

from cliplab.models.clip import CLIP
from cliplab.models.encoders import LayeredModule
from cliplab.models.modified_resnet import ModifiedResNet
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens
from cliplab.models.vision_transformer import VisionTransformer
from cliplab.optim.locking import Locking, TowerLock
from cliplab.optim.param_groups import build_optimizer, parameter_groups


def small(image: str = "vit") -> CLIP:
    tower: nn.Module
    if image == "vit":
        tower = VisionTransformer(image_size=32, patch_size=16, width=8, layers=3, heads=1, output_dim=4)
    else:
        tower = ModifiedResNet(image_size=32, layers=[1, 1, 1, 1], width=8, heads=4, output_dim=4)
    text = TextTransformer(vocab_size=20, context_length=8, width=8, layers=2, heads=1, output_dim=4)
    return CLIP(tower, text, embed_dim=4)


def locked(model: CLIP, objective: LayeredModule | None = None, **locks: TowerLock) -> Locking:
    return Locking(model, objective or LayeredModule(), locks)


def changed_by_a_step(model: CLIP, locking: Locking, step: int = 0) -> set[str]:
    """Names of parameters and buffers that one optimizer step moved."""
    model.train()
    locking.apply(step)
    locking.set_frozen_to_eval()
    groups = parameter_groups(
        model, LayeredModule(), lr_scales=locking.lr_scales(), frozen_for_now=locking.frozen_for_now()
    )
    optimizer = build_optimizer(partial(torch.optim.AdamW, lr=0.1, weight_decay=0.2), groups)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, texts = torch.rand(4, 3, 32, 32), Tokens(torch.randint(1, 20, (4, 5)), torch.tensor([5, 3, 4, 5]))
    output = model(images, texts)
    loss = (output.logit_scale * output.image_embeds @ output.text_embeds.T).log_softmax(1).diagonal().mean()
    loss.backward()
    optimizer.step()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_without_locks_everything_trains_at_the_optimizer_s_rate() -> None:
    model = small()
    locking = locked(model)
    assert not locking.changes_anything
    plain, rated = (parameter_groups(model, LayeredModule(), lr_scales=s) for s in ({}, locking.lr_scales()))
    assert [[id(p) for p in g["params"]] for g in plain] == [[id(p) for p in g["params"]] for g in rated]
    assert all(group["lr_scale"] == 1 for group in rated)
    trained = {name for name, _ in model.named_parameters()}
    assert changed_by_a_step(model, locking) >= trained - {"text_encoder.token_embedding.weight"}


@pytest.mark.parametrize("image", ["vit", "resnet"])
def test_locked_image_tower_stays_to_the_last_buffer(image: str) -> None:
    model = small(image)
    locking = locked(model, image_encoder=TowerLock(unlocked_groups=0))
    changed = changed_by_a_step(model, locking)
    assert {name.split(".")[0] for name in changed} == {"text_encoder", "logit_scale"}
    assert not model.image_encoder.training
    assert model.text_encoder.training
    assert not model.encode_image(torch.rand(2, 3, 32, 32)).requires_grad
    assert all(p.grad is None for p in model.image_encoder.parameters())


def test_unlocked_groups_count_from_the_output() -> None:
    expected = {
        1: {"projection"},
        2: {"projection", "ln_post", "blocks.2"},
        3: {"projection", "ln_post", "blocks.2", "blocks.1"},
    }
    for unlocked, parts in expected.items():
        model = small()
        locking = locked(model, image_encoder=TowerLock(unlocked_groups=unlocked))
        changed = {n.removeprefix("image_encoder.") for n in changed_by_a_step(model, locking) if "image_encoder" in n}
        assert {".".join(n.split(".")[:2]) if n.startswith("blocks") else n.split(".")[0] for n in changed} == parts
        assert [block.training for block in model.image_encoder.blocks] == [f"blocks.{i}" in parts for i in range(3)]


def test_batch_norm_of_frozen_stages_keeps_its_statistics() -> None:
    model = small("resnet")
    locking = locked(model, image_encoder=TowerLock(unlocked_groups=2))
    changed = changed_by_a_step(model, locking)
    moved = {name.split(".")[2] for name in changed if "running_mean" in name}
    assert moved == {"3"}  # the last stage; the stem and the first three stay
    assert not any(name.startswith("image_encoder.stem") for name in changed)


def test_unfreezing_at_a_step_and_the_mark_on_the_text_tower() -> None:
    model = small()
    locking = locked(model, text_encoder=TowerLock(unlocked_groups=0, unfreeze_at_step=5, layer_decay=0.5))
    assert locking.apply(0)
    assert model.text_fixed
    assert not locking.apply(4)
    assert not any("text_encoder" in name for name in changed_by_a_step(model, locking, step=4))
    assert locking.apply(5)
    assert not model.text_fixed
    assert model.text_encoder.training
    assert any("text_encoder.blocks.0" in name for name in changed_by_a_step(model, locking, step=5))


def test_layer_decay_and_tower_rates_by_hand() -> None:
    model = small()
    locking = locked(
        model, image_encoder=TowerLock(layer_decay=0.5), text_encoder=TowerLock(unlocked_groups=1, lr_multiplier=0.1)
    )
    locking.apply(0)
    groups = parameter_groups(model, LayeredModule(), lr_scales=locking.lr_scales())
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    assert rates["image_encoder.projection"] == rates["logit_scale"] == 1
    assert rates["image_encoder.blocks.2.mlp_in.weight"] == rates["image_encoder.ln_post.bias"] == 0.5
    assert rates["image_encoder.blocks.0.mlp_in.weight"] == 0.125
    assert rates["image_encoder.class_embedding"] == rates["image_encoder.patch_embedding.weight"] == 0.0625
    assert rates["text_encoder.projection"] == 0.1
    assert {name for name in rates if name.startswith("text_encoder")} == {"text_encoder.projection"}
    assert list(dict.fromkeys(group["lr_scale"] for group in groups)) == [1.0, 0.5, 0.25, 0.125, 0.1, 0.0625]
    assert [group["name"] for group in groups[:4]] == [
        "image_encoder.outer",
        "model.vectors",
        "image_encoder.hidden@0.5",
        "image_encoder.vectors@0.5",
    ]
    assert all(("weight_decay" in group) == all(p.ndim < 2 for p in group["params"]) for group in groups)


def test_locks_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="unlocked_groups -1 is negative"):
        TowerLock(unlocked_groups=-1)
    with pytest.raises(ValueError, match="unfreeze_at_step 5 needs something locked"):
        TowerLock(unfreeze_at_step=5)
    with pytest.raises(ValueError, match="lr_multiplier 0 must be above 0"):
        TowerLock(lr_multiplier=0)
    with pytest.raises(ValueError, match=r"locking.image_encoder.unlocked_groups 6 exceeds the 5 groups"):
        locked(small(), image_encoder=TowerLock(unlocked_groups=6))
