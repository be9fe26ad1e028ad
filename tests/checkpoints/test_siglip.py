"""SigLIP's weights from open_clip and from transformers: the same embeddings and logits on random weights."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hydra.utils import instantiate
from open_clip.tokenizer import canonicalize_text
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import TextTransformer
from PIL import Image
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

import cliplab
from cliplab.assembly.weights import resized
from cliplab.checkpoints import siglip
from cliplab.checkpoints.open_clip import read_open_clip
from cliplab.checkpoints.preprocessing import SQUASH
from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.weights import Weights, load_exactly
from cliplab.data.tokenizers import canonical_text
from cliplab.data.transforms import SquashTransform
from cliplab.models.clip import CLIP
from cliplab.models.siglip import SiglipTextTransformer, SiglipVisionTransformer
from cliplab.models.tokens import Tokens
from tests.models.hf_toys import save_tokenizer

from ..models.weights import randomise

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
LENGTHS = torch.tensor([3, 16, 7])


def loaded(weights: Weights) -> CLIP:
    model = instantiate(weights.model, _convert_="all").eval()
    load_exactly(model, weights.state, weights.source)
    return model


def texts() -> tuple[Tokens, Tensor]:
    """Token ids padded by nothing in particular, and the same filled up with SigLIP's padding."""
    ids = torch.randint(2, 100, (3, 16), generator=torch.Generator().manual_seed(3))
    filled = ids.where(torch.arange(16) < LENGTHS[:, None], 1)
    return Tokens(ids, LENGTHS), filled


def pixels(size: int) -> tuple[Tensor, Tensor]:
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(2))
    return images, (images - 0.5) / 0.5


def open_clip_parts(tanh: bool) -> tuple[nn.Module, nn.Module]:
    norm, activation = partial(nn.LayerNorm, eps=1e-6), partial(nn.GELU, approximate="tanh") if tanh else nn.GELU
    trunk = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=64,
        depth=2,
        num_heads=2,
        class_token=False,
        global_pool="map",
        num_classes=0,
    )
    text = TextTransformer(
        context_length=16, vocab_size=100, width=64, heads=4, layers=2, output_dim=64, no_causal_mask=True, proj_bias=True,
        pool_type="last", norm_layer=norm, act_layer=activation,
    )  # fmt: skip
    randomise(trunk)
    randomise(text)
    return trunk.eval(), text.eval()


def open_clip_config(tanh: bool) -> dict[str, Any]:
    cfg = open_clip.get_model_config("ViT-B-16-SigLIP2" if tanh else "ViT-B-16-SigLIP")
    cfg["embed_dim"] = 64
    cfg["vision_cfg"]["image_size"] = 32
    cfg["text_cfg"] |= {"context_length": 16, "vocab_size": 100, "width": 64, "heads": 4, "layers": 2}
    return cfg


@torch.no_grad()
@pytest.mark.parametrize("tanh", [False, True])
def test_open_clips_towers(tanh: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siglip, "_timm_tower", lambda name, stated: {"heads": 2, "activation": "gelu"})
    trunk, text = open_clip_parts(tanh)
    state = {f"visual.trunk.{k}": v for k, v in trunk.state_dict().items()}
    state |= {f"text.{k}": v for k, v in text.state_dict().items()}
    state |= {"logit_scale": torch.tensor([2.0]), "logit_bias": torch.tensor([-9.0])}
    weights = read_open_clip(open_clip_config(tanh), {}, state, "tiny")
    model = loaded(weights)
    (images, normal), (tokens, filled) = pixels(32), texts()
    torch.testing.assert_close(model.encode_image(images), F.normalize(trunk(normal), dim=-1), **CLOSE)
    torch.testing.assert_close(model.encode_text(tokens), F.normalize(text(filled), dim=-1), **CLOSE)
    assert (float(model.logit_scale), float(model.logit_bias)) == (2, -9)
    assert weights.tokenizer["source"] == ("timm/ViT-B-16-SigLIP2" if tanh else "timm/ViT-B-16-SigLIP")
    if not tanh:  # the multilingual So400m has no projection after the text tower
        cfg = open_clip_config(False)
        cfg["text_cfg"]["proj_type"] = "none"
        bare = {k: v for k, v in state.items() if "text_projection" not in k}
        text.text_projection = None
        plain = loaded(read_open_clip(cfg, {}, bare, "tiny"))
        torch.testing.assert_close(plain.encode_text(tokens), F.normalize(text(filled), dim=-1), **CLOSE)
    state.pop("text.ln_final.bias")
    with pytest.raises(ValueError, match=r"missing: ln_final.bias$"):
        read_open_clip(open_clip_config(tanh), {}, state, "tiny")


@torch.no_grad()
@pytest.mark.parametrize("size", [32, 30])
def test_transformers_model(size: int, tmp_path: Path) -> None:
    common = {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = SiglipConfig(
        vision_config={**common, "image_size": size, "patch_size": 8},
        text_config={**common, "vocab_size": 100, "max_position_embeddings": 16, "projection_size": 64},
    )
    theirs = SiglipModel(config).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    weights = read_pretrained(str(tmp_path))
    model = loaded(weights)
    (images, normal), (tokens, filled) = pixels(size), texts()
    out, ours = theirs(input_ids=filled, pixel_values=normal), model(images, tokens)
    torch.testing.assert_close(ours.image_embeds, out.image_embeds, **CLOSE)
    torch.testing.assert_close(ours.text_embeds, out.text_embeds, **CLOSE)
    logits = ours.logit_scale * ours.image_embeds @ ours.text_embeds.T + ours.logit_bias
    torch.testing.assert_close(logits, out.logits_per_image, rtol=1e-5, atol=1e-4)
    assert weights.model["text_encoder"]["activation"] == "gelu_tanh"
    assert weights.tokenizer == {"_target_": siglip.SIGLIP_TOKENIZER, "source": str(tmp_path), "context_length": 16}
    assert weights.transform == {"_target_": SQUASH}


@pytest.mark.parametrize("size", [(50, 37), (16, 16), (9, 40)], ids=str)
def test_squash_is_open_clips_to_the_bit(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8))
    cfg = PreprocessCfg(size=16, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash")
    expected = image_transform_v2(cfg, is_train=False)(image)
    assert torch.equal((SquashTransform(16)(image).float() / 255 - 0.5) / 0.5, expected)


@pytest.mark.parametrize("text", ["A photo, of_a  CAT!!", " it's  e-mail\n", "", "¿Qué?"])
def test_texts_are_made_canonical_as_in_open_clip(text: str) -> None:
    assert canonical_text(text) == canonicalize_text(text)


def test_folder_with_its_tokenizer_is_a_model_to_use(tmp_path: Path) -> None:
    common = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = SiglipConfig(
        vision_config={**common, "image_size": 32, "patch_size": 8},
        text_config={**common, "vocab_size": 100, "max_position_embeddings": 8, "projection_size": 64},
    )
    theirs = SiglipModel(config).eval()
    theirs.save_pretrained(tmp_path)
    words = {"<unk>": 2, "</s>": 1, "a": 5, "cat": 6, "dog": 7}
    library = Tokenizer(WordLevel(words, unk_token="<unk>"))
    library.pre_tokenizer = Whitespace()
    library.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=library, pad_token="</s>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(tmp_path)
    model = cliplab.load(str(tmp_path), device="cpu")
    filled = torch.tensor([[5, 6, 1, 1, 1, 1, 1, 1], [7, 1, 1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        expected = F.normalize(theirs.get_text_features(filled).pooler_output, dim=-1)
    np.testing.assert_allclose(model.embed_texts(["a cat", "dog"]), expected.numpy(), atol=1e-5)
    assert isinstance(model.transform, SquashTransform)


def test_named_file_takes_the_tokenizer_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siglip, "_timm_tower", lambda name, stated: {"heads": 2, "activation": "gelu"})
    monkeypatch.setattr("cliplab.checkpoints.read.named_config", lambda name: open_clip_config(False))
    trunk, text = open_clip_parts(False)
    state = {f"visual.trunk.{k}": v for k, v in trunk.state_dict().items()}
    state |= {f"text.{k}": v for k, v in text.state_dict().items()}
    torch.save(state | {"logit_scale": torch.tensor(2.0), "logit_bias": torch.tensor(-9.0)}, tmp_path / "tiny.bin")
    spec = f"open_clip:ViT-B-16-SigLIP:{tmp_path / 'tiny.bin'}"
    with pytest.raises(
        ValueError, match=r"timm/ViT-B-16-SigLIP cannot be read .* Put its tokenizer.json and .* beside"
    ):
        cliplab.load(spec, device="cpu")
    save_tokenizer(tmp_path)
    assert cliplab.load(spec, device="cpu").embed_texts("a red disc").shape == (1, 64)


@torch.no_grad()
def test_positions_for_another_image_size_are_open_clips() -> None:
    state = {"image_encoder.positional_embedding": torch.randn(16, 8)}
    tower = {"_target_": siglip.VISION, "image_size": 48, "patch_size": 8}
    expected = resample_abs_pos_embed(
        state["image_encoder.positional_embedding"][None], [6, 6], [4, 4], num_prefix_tokens=0, interpolation="bicubic"
    )
    torch.testing.assert_close(resized(state, tower)["image_encoder.positional_embedding"], expected[0], **CLOSE)
    assert resized(state, {**tower, "image_size": 32})["image_encoder.positional_embedding"] is next(
        iter(state.values())
    )


def test_layer_groups_hold_every_parameter_once() -> None:
    sizes = {"width": 16, "layers": 3, "heads": 2, "output_dim": 16}
    towers = (
        SiglipVisionTransformer(image_size=16, patch_size=8, **sizes),
        SiglipTextTransformer(vocab_size=9, context_length=4, **sizes),
    )
    for tower in towers:
        groups = tower.layer_groups()
        assert len(groups) == 5
        assert sorted(id(p) for group in groups for p in group) == sorted(id(p) for p in tower.parameters())
    with pytest.raises(ValueError, match="output_dim 8 must be the width 16"):
        SiglipVisionTransformer(image_size=16, patch_size=8, **{**sizes, "output_dim": 8})
    with pytest.raises(ValueError, match="texts of 5 tokens reached a tower for 4"):
        towers[1](Tokens(torch.zeros(1, 5, dtype=torch.int64), torch.tensor([5])))
