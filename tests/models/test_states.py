"""States of towers: the pooled vectors of ``forward`` to the bit, and each state where its patch or token is."""

from functools import partial

import pytest
import torch
from torch import nn

from cliplab.models.clip import CLIP
from cliplab.models.encoders import ImageEncoder, TextEncoder, grid_of_states
from cliplab.models.modified_resnet import ModifiedResNet
from cliplab.models.siglip import SiglipTextTransformer, SiglipVisionTransformer
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens
from cliplab.models.vision_transformer import VisionTransformer

from .test_foreign_vision import TOWERS as HUGGING_FACE
from .test_foreign_vision import hf, with_timm
from .test_hf_text import tower as hf_text

SIZES = {"width": 8, "layers": 2, "heads": 2, "output_dim": 8}
TEXT = {"vocab_size": 20, "context_length": 6, **SIZES}
TOKENS = Tokens(torch.tensor([[3, 4, 5, 6, 2], [3, 4, 2, 0, 0], [3, 4, 5, 2, 0]]), torch.tensor([5, 3, 4]))
IMAGE_TOWERS = {
    "vit": (lambda: VisionTransformer(image_size=32, patch_size=8, **SIZES), 4),
    "resnet": (lambda: ModifiedResNet(image_size=64, layers=[1, 1, 1, 1], width=8, heads=4, output_dim=8), 2),
    "siglip": (lambda: SiglipVisionTransformer(image_size=34, patch_size=8, **SIZES), 4),
    "timm test_vit": (lambda: with_timm("test_vit"), 10),
    "timm test_convnext": (lambda: with_timm("test_convnext"), 5),
    "timm test_resnet": (lambda: with_timm("test_resnet"), 5),
    "timm swin": (lambda: with_timm("swin_s3_tiny_224"), 7),
    **{f"hf {name}": (partial(hf, name), side) for name, side in zip(HUGGING_FACE, (4, 4, 4, 4, 4), strict=True)},
}


TEXT_TOWERS = {
    "clip": lambda: TextTransformer(**TEXT),
    "siglip": lambda: SiglipTextTransformer(**TEXT),
    **{f"hf {name}": partial(hf_text, name) for name in ("bert", "t5", "modernbert")},
    "hf joined": partial(hf_text, "bert", hidden_states=[0, -1], cached_texts=8),
}


@pytest.mark.parametrize("name", IMAGE_TOWERS)
def test_image_states_are_a_grid_and_the_vector_is_that_of_forward(name: str) -> None:
    make, side = IMAGE_TOWERS[name]
    torch.manual_seed(0)
    tower: ImageEncoder = make().eval()
    images = torch.randn(2, 3, tower.image_size, tower.image_size)
    states = tower.forward_states(images)
    assert states.patches.shape == (2, side, side, tower.state_width)
    assert torch.equal(states.pooled, tower(images))
    with torch.no_grad():
        assert torch.equal(tower.forward_states(images).pooled, tower(images))


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_text_states_are_zero_on_padding_and_the_vector_is_that_of_forward(name: str) -> None:
    torch.manual_seed(0)
    tower: TextEncoder = TEXT_TOWERS[name]().eval()
    states = tower.forward_states(TOKENS)
    assert states.tokens.shape == (3, 5, tower.state_width)
    assert torch.equal(states.pooled, tower(TOKENS))
    real = torch.arange(5) < TOKENS.lengths.unsqueeze(1)
    assert (states.tokens != 0).any(-1).equal(real)
    with torch.no_grad():
        shared = tower.forward_states(TOKENS)
        assert torch.equal(shared.pooled, tower(TOKENS))
    torch.testing.assert_close(shared.tokens, states.tokens)
    if not isinstance(tower, SiglipTextTransformer):  # which reads texts filled up to its whole length
        alone = tower.forward_states(Tokens(TOKENS.ids[1:2, :3], TOKENS.lengths[1:2]))
        torch.testing.assert_close(alone.tokens, states.tokens[1:2, :3], rtol=1e-4, atol=1e-5)


def test_the_state_at_the_end_of_a_text_is_what_clip_pools() -> None:
    tower = TextTransformer(**TEXT)
    states = tower.forward_states(TOKENS)
    ends = states.tokens[torch.arange(3), TOKENS.lengths - 1]
    torch.testing.assert_close(ends @ tower.projection, states.pooled)


@pytest.mark.parametrize("name", ["vit", "siglip", "resnet", "hf vit", "timm test_vit", "timm test_convnext"])
def test_rows_and_columns_are_where_the_picture_has_them(name: str) -> None:
    """A change in the picture moves the state at its place most."""
    make, side = IMAGE_TOWERS[name]
    torch.manual_seed(0)
    tower = make().eval()
    patch = tower.image_size // side
    for part in tower.modules():  # attention and pools mix places: the less, the clearer
        if isinstance(part, nn.Linear) and part.in_features == part.out_features:
            nn.init.zeros_(part.weight)
    images = torch.randn(1, 3, tower.image_size, tower.image_size)
    changed = images.clone()
    row, column = 1, 0
    changed[..., row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 1
    with torch.no_grad():
        moved = (tower.forward_states(changed).patches - tower.forward_states(images).patches).norm(dim=-1)[0]
    assert divmod(int(moved.argmax()), side) == (row, column)


def test_no_patch_is_left_out_of_a_grid() -> None:
    tower = VisionTransformer(image_size=32, patch_size=8, patch_dropout=0.5, **SIZES).train()
    images = torch.randn(2, 3, 32, 32)
    assert tower.forward_states(images).patches.shape == (2, 4, 4, 8)
    assert torch.equal(tower.forward_states(images).pooled, tower.eval()(images))


def test_states_that_are_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="12 states for a picture, which form no square grid"):
        grid_of_states(torch.zeros(1, 12, 4))
    with pytest.raises(NotImplementedError, match="ImageEncoder gives no states"):
        ImageEncoder().forward_states(torch.zeros(1, 3, 4, 4))


def test_clip_encodes_what_is_read_and_each_tower_once() -> None:
    model = CLIP(IMAGE_TOWERS["vit"][0](), TextTransformer(**TEXT), embed_dim=8)
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    calls: list[str] = []
    for tower in (model.image_encoder, model.text_encoder):
        tower.blocks[0].register_forward_hook(lambda block, inputs, output, t=tower: calls.append(type(t).__name__))
    plain = model(images, TOKENS)
    assert plain.image_states is None
    assert plain.text_states is None
    assert calls == ["VisionTransformer", "TextTransformer"]
    whole = model(images, TOKENS, {"image_embeds", "image_states", "text_states", "text_embeds"})
    assert calls == ["VisionTransformer", "TextTransformer"] * 2
    assert torch.equal(whole.image_embeds, plain.image_embeds)
    assert torch.equal(whole.text_embeds, plain.text_embeds)
    assert whole.image_states.patches.shape == (3, 4, 4, 8)
    only = model(images, TOKENS, {"image_states"})
    assert only.text_embeds is None
    assert len(calls) == 5
