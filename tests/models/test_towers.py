"""Initialisation as in OpenAI's code, the properties of an embedding, and errors that tell the fix."""

import math
from typing import Any

import pytest
import torch

from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.models.clip import CLIP
from cliplab.models.layers import ResidualBlock
from cliplab.models.modified_resnet import ModifiedResNet
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.vision_transformer import VisionTransformer

from .weights import tiny

WIDTH, LAYERS = 128, 4
VIT: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "width": WIDTH,
    "layers": LAYERS,
    "heads": 4,
    "output_dim": 64,
}
TEXT: dict[str, Any] = {
    "vocab_size": 2000,
    "context_length": 77,
    "width": WIDTH,
    "layers": LAYERS,
    "heads": 4,
    "output_dim": 64,
}


def spread(parameter: torch.Tensor) -> float:
    return float(parameter.detach().std())


def test_text_tower_initialisation() -> None:
    model = TextTransformer(**TEXT)
    block = model.blocks[1]
    residual = WIDTH**-0.5 * (2 * LAYERS) ** -0.5
    expected = {
        model.token_embedding.weight: 0.02,
        model.positional_embedding: 0.01,
        model.projection: WIDTH**-0.5,
        block.attention.qkv.weight: WIDTH**-0.5,
        block.attention.out.weight: residual,
        block.mlp_in.weight: (2 * WIDTH) ** -0.5,
        block.mlp_out.weight: residual,
    }
    for parameter, std in expected.items():
        assert spread(parameter) == pytest.approx(std, rel=0.05)
    assert not block.attention.qkv.bias.any()
    assert not block.attention.out.bias.any()
    assert (model.ln_final.weight == 1).all()


def test_vision_tower_initialisation() -> None:
    model = VisionTransformer(**VIT)
    for parameter in (model.class_embedding, model.positional_embedding, model.projection):
        assert spread(parameter) == pytest.approx(WIDTH**-0.5, rel=0.2)
    bound = math.sqrt(6 / (WIDTH + 3 * WIDTH))  # PyTorch's attention: Xavier over the joint projection
    qkv = model.blocks[0].attention.qkv.weight
    assert float(qkv.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    assert model.patch_embedding.bias is None


def test_resnet_initialisation() -> None:
    model = ModifiedResNet(image_size=64, layers=[1, 1, 1, 1], width=16, heads=8, output_dim=32)
    for stage in model.stages:
        assert not stage[0].bn3.weight.any()
    width = 16 * 8 * 4
    for layer in (model.pool.query, model.pool.key, model.pool.value, model.pool.out):
        assert spread(layer.weight) == pytest.approx(width**-0.5, rel=0.05)
    assert spread(model.pool.positional_embedding) == pytest.approx(width**-0.5, rel=0.1)


def test_scale_starts_at_one_over_the_temperature_and_is_clamped() -> None:
    model = tiny("vit")
    assert float(model.logit_scale.exp()) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    model.keep_in_range()
    assert float(model.logit_scale.exp()) == pytest.approx(100)


def test_whole_numbers_for_the_bias_and_the_statistics_of_pictures() -> None:
    whole: dict[str, Any] = {"init_logit_bias": -10, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    towers = tiny("vit")
    model = CLIP(towers.image_encoder, towers.text_encoder, embed_dim=32, **whole)
    assert model.logit_bias is not None
    assert model.logit_bias.requires_grad
    assert (model.logit_bias.item(), model.logit_bias.dtype) == (-10, torch.float32)
    white = model.normalised(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))
    assert torch.equal(white, torch.ones(1, 3, 32, 32))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_embeddings_are_unit_float32_vectors_also_in_bfloat16(kind: str) -> None:
    model = tiny(kind).eval()
    size = model.image_size
    images = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = model(images, CLIPTokenizer(77)(["a", "b c", ""]))
        for embeds in out[:2]:
            assert embeds.dtype == torch.float32
            torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(3), rtol=1e-5, atol=1e-5)


def test_uint8_and_float_pictures_are_the_same() -> None:
    model = tiny("vit").eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(model.encode_image(images), model.encode_image(images.float() / 255))


def test_patch_dropout_works_in_training_alone() -> None:
    model = VisionTransformer(**VIT, patch_dropout=0.75)
    seen = []
    model.blocks[0].register_forward_hook(lambda m, inputs, out: seen.append(inputs[0].shape[1]))
    images = torch.rand(2, 3, 32, 32)
    model.train()(images)
    model.eval()(images)
    assert seen == [1 + 4, 1 + 16]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VisionTransformer(**{**VIT, "image_size": 50}), "set model.image_encoder.image_size to 48"),
        (lambda: VisionTransformer(**VIT, patch_dropout=1.0), "outside"),
        (lambda: VisionTransformer(**{**VIT, "heads": 3}), "width 128 is not a multiple of heads 3"),
        (lambda: VisionTransformer(**VIT)(torch.rand(1, 3, 40, 40)), "images of 40 x 40 pixels reached a tower for 32"),
        (lambda: ModifiedResNet(image_size=60, layers=[1] * 4, width=16, heads=8, output_dim=8), "image_size to 32"),
        (lambda: ModifiedResNet(image_size=64, layers=[1] * 3, width=16, heads=8, output_dim=8), "four stages"),
        (lambda: ResidualBlock(8, 2, 4.0, "relu", causal=False), "choose one of quick_gelu, gelu"),
        (
            lambda: CLIP(VisionTransformer(**VIT), TextTransformer(**{**TEXT, "output_dim": 32}), embed_dim=64),
            "model.text_encoder gives 32 dimensions but model.embed_dim is 64",
        ),
    ],
)
def test_error_tells_the_fix(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
