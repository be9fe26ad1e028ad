"""On the same random weights: the embeddings, logits and gradients of open_clip and of transformers."""

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.models.clip import CLIP
from cliplab.models.tokens import Tokens

from .weights import openai_names, tiny

TEXTS = ["a photo of a cat", "", "two dogs run on a long beach at dawn, barking " * 3, "x" * 400, "猫 and 🦊!"]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def images_for(model: CLIP) -> Tensor:
    size = model.image_size
    return torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(2))


def padded(tokens: Tokens) -> Tensor:
    return F.pad(tokens.ids, (0, 77 - tokens.ids.shape[1]))


def normalised(model: CLIP, images: Tensor) -> Tensor:
    return (images - model.image_mean) / model.image_std


def open_clip_twin(model: CLIP, kind: str) -> torch.nn.Module:
    vision = {"image_size": model.image_size}
    if kind == "vit":
        vision |= {"layers": 2, "width": 64, "head_width": 64, "patch_size": 8}
    else:
        vision |= {"layers": [1, 2, 1, 1], "width": 16, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    twin = open_clip.model.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    names = openai_names(model, dict(model.state_dict()))
    missing, unexpected = twin.load_state_dict(names, strict=False)
    assert not unexpected
    assert [m for m in missing if "attn_mask" not in m] == []
    return twin


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("training", [False, True])
def test_open_clip_embeddings_logits_and_gradients(kind: str, training: bool) -> None:
    model = tiny(kind).train(training)
    twin = open_clip_twin(model, kind).train(training)
    images, tokens = images_for(model), CLIPTokenizer(77)(TEXTS)
    out = model(images, tokens)
    image_embeds, text_embeds, scale = twin(normalised(model, images), padded(tokens))
    torch.testing.assert_close(out.image_embeds, image_embeds, **CLOSE)
    torch.testing.assert_close(out.text_embeds, text_embeds, **CLOSE)
    logits = out.logit_scale * out.image_embeds @ out.text_embeds.T
    their_logits = scale * image_embeds @ text_embeds.T
    torch.testing.assert_close(logits, their_logits, rtol=1e-5, atol=1e-4)

    labels = torch.arange(5)
    F.cross_entropy(logits, labels).backward()
    F.cross_entropy(their_logits, labels).backward()
    gradients = openai_names(model, {name: p.grad for name, p in model.named_parameters()})
    theirs = {name: p.grad for name, p in twin.named_parameters()}
    assert gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        limit = max(1e-5, 1e-4 * float(theirs[name].abs().max()))
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=limit, msg=lambda m, n=name: f"{n}: {m}")


def transformers_twin(model: CLIP) -> CLIPModel:
    common = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    twin = CLIPModel(
        CLIPConfig(
            text_config={**common, "vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407},
            vision_config={**common, "image_size": 32, "patch_size": 8},
            projection_dim=32,
        )
    )
    state = {"logit_scale": model.logit_scale, "text_projection.weight": model.text_encoder.projection.T}
    state["visual_projection.weight"] = model.image_encoder.projection.T
    for side, tower, norm in (
        ("text_model", model.text_encoder, {"ln_final": "final_layer_norm"}),
        ("vision_model", model.image_encoder, {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}),
    ):
        own = dict(tower.state_dict())
        parts = {
            "ln_1": "layer_norm1",
            "ln_2": "layer_norm2",
            "attention.out": "self_attn.out_proj",
            "mlp_in": "mlp.fc1",
            "mlp_out": "mlp.fc2",
        }
        for kind in ("weight", "bias"):
            for a, b in norm.items():
                state[f"{side}.{b}.{kind}"] = own[f"{a}.{kind}"]
            for i in range(2):
                layer = f"{side}.encoder.layers.{i}"
                for letter, rows in zip("qkv", own[f"blocks.{i}.attention.qkv.{kind}"].chunk(3), strict=True):
                    state[f"{layer}.self_attn.{letter}_proj.{kind}"] = rows
                for a, b in parts.items():
                    state[f"{layer}.{b}.{kind}"] = own[f"blocks.{i}.{a}.{kind}"]
    text, vision = model.text_encoder, model.image_encoder
    state["text_model.embeddings.token_embedding.weight"] = text.token_embedding.weight
    state["text_model.embeddings.position_embedding.weight"] = text.positional_embedding
    state["vision_model.embeddings.class_embedding"] = vision.class_embedding
    state["vision_model.embeddings.patch_embedding.weight"] = vision.patch_embedding.weight.unflatten(1, (3, 8, 8))
    state["vision_model.embeddings.position_embedding.weight"] = vision.positional_embedding
    missing, unexpected = twin.load_state_dict(state, strict=False)
    assert not unexpected
    assert [m for m in missing if "position_ids" not in m] == []
    return twin.eval()


def test_transformers_embeddings_and_logits() -> None:
    model = tiny("vit").eval()
    twin = transformers_twin(model)
    images, tokens = images_for(model), CLIPTokenizer(77)(TEXTS)
    with torch.no_grad():
        out = model(images, tokens)
        theirs = twin(input_ids=padded(tokens), pixel_values=normalised(model, images))
    torch.testing.assert_close(out.image_embeds, theirs.image_embeds, **CLOSE)
    torch.testing.assert_close(out.text_embeds, theirs.text_embeds, **CLOSE)
    logits = out.logit_scale * out.image_embeds @ out.text_embeds.T
    torch.testing.assert_close(logits, theirs.logits_per_image, rtol=1e-5, atol=1e-4)
