"""Exported weights in the programs they are for: the same embeddings, and a refusal where the format cannot hold them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from cliplab.checkpoints.onnx import ImageGraph, TextGraph
from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.weights import Weights
from cliplab.checkpoints.write import write
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform
from cliplab.models.clip import CLIP
from cliplab.settings.build import build
from tests.models.weights import built, tiny_config

TEXTS = ["a photo of a cat", "", "x" * 400, "猫 and 🦊!"]
TOKENIZER = {"_target_": "cliplab.data.tokenizers.CLIPTokenizer", "context_length": 77}


def weights_of(config: dict[str, Any]) -> tuple[Weights, CLIP]:
    model = built(config).eval()
    return Weights(config, TOKENIZER, model.state_dict(), "tiny.pt"), model


def picture() -> Image.Image:
    y, x = np.mgrid[:60, :80]
    return Image.fromarray(np.stack([x * 3, y * 4, (x + y)], -1).astype(np.uint8))


@torch.no_grad()
def test_transformers_reads_the_folder_with_its_processor(tmp_path: Path) -> None:
    weights, model = weights_of(tiny_config("vit") | {"image_mean": [0.5, 0.4, 0.3]})
    write("huggingface", tmp_path, weights, model)
    theirs, processor = CLIPModel.from_pretrained(tmp_path).eval(), CLIPProcessor.from_pretrained(tmp_path)
    pixels = EvalTransform(32)(picture()).unsqueeze(0)
    inputs = processor(text=TEXTS, images=picture(), padding=True, truncation=True, return_tensors="pt")
    tokens = CLIPTokenizer(77)(TEXTS)
    for row, length in enumerate(tokens.lengths):
        assert torch.equal(inputs["input_ids"][row, :length], tokens.ids[row, :length])
    normal = (pixels / 255 - model.image_mean) / model.image_std
    assert (inputs["pixel_values"] - normal).abs().max() < 0.05  # its resize works on tensors, ours is Pillow's
    out = theirs(**{**inputs, "pixel_values": normal})
    torch.testing.assert_close(out.text_embeds, model.encode_text(tokens), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.image_embeds, model.encode_image(pixels), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_openai_file_is_read_by_open_clip(kind: str, tmp_path: Path) -> None:
    weights, model = weights_of(tiny_config(kind))
    write("openai", tmp_path, weights, model)
    theirs = open_clip.load_openai_model(str(tmp_path / "model.pt"), device="cpu").eval()
    pixels = torch.rand(2, 3, model.image_size, model.image_size)
    normal = (pixels - model.image_mean) / model.image_std
    # these readers pass the weights through half precision
    torch.testing.assert_close(
        theirs.encode_image(normal, normalize=True), model.encode_image(pixels), atol=3e-3, rtol=0
    )


@torch.no_grad()
@pytest.mark.slow
def test_onnx_graphs_give_the_same_vectors_at_any_batch_and_length(tmp_path: Path) -> None:
    config = tiny_config("vit", layers=1)
    config["image_encoder"]["layers"] = 1
    weights, model = weights_of(config)
    write("onnx", tmp_path, weights, model)
    image = onnxruntime.InferenceSession(tmp_path / "image_encoder.onnx")
    text = onnxruntime.InferenceSession(tmp_path / "text_encoder.onnx")
    for count in (1, 5):
        pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
        found = image.run(["image_embeds"], {"pixels": pixels.numpy()})[0]
        np.testing.assert_allclose(found, model.encode_image(pixels).numpy(), atol=1e-5)
    for texts in (["a cat"], TEXTS):
        tokens = CLIPTokenizer(77)(texts)
        mask = (torch.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]).long()
        found = text.run(["text_embeds"], {"input_ids": tokens.ids.numpy(), "attention_mask": mask.numpy()})[0]
        np.testing.assert_allclose(found, model.encode_text(tokens).numpy(), atol=1e-5)
    assert (tmp_path / "tokenizer.json").is_file()


@torch.no_grad()
def test_graphs_are_the_model_for_a_resnet_too() -> None:
    model = built(tiny_config("resnet")).eval()
    pixels, tokens = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), CLIPTokenizer(77)(TEXTS)
    assert torch.equal(ImageGraph(model)(pixels), model.encode_image(pixels))
    mask = (torch.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]).long()
    torch.testing.assert_close(TextGraph(model)(tokens.ids, mask), model.encode_text(tokens), rtol=1e-5, atol=1e-6)


def test_our_own_format_comes_back_whole(tmp_path: Path) -> None:
    config = tiny_config("resnet", activation="gelu", context_length=40) | {"max_logit_scale": 50.0}
    weights, model = weights_of(config)
    write("safetensors", tmp_path, weights, model)
    for spec in (tmp_path, tmp_path / "model.safetensors"):
        again = read_pretrained(str(spec))
        assert (again.model, again.tokenizer, again.transform) == (config, TOKENIZER, weights.transform)
        assert all(torch.equal(again.state[k], v) for k, v in weights.state.items())
        assert again.state.keys() == weights.state.keys()


@pytest.mark.parametrize("form", ["huggingface", "open_clip", "openai"])
@pytest.mark.filterwarnings("ignore:.*OpenAI's convention")
def test_second_export_is_the_first(form: str, tmp_path: Path) -> None:
    weights, model = weights_of(tiny_config("vit"))
    write(form, tmp_path / "a", weights, model)
    again = read_pretrained(str(tmp_path / "a"))
    write(form, tmp_path / "b", again, model)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("form", "kind", "changes", "message"),
    [
        (
            "huggingface",
            "resnet",
            {},
            "a ViT and a causal text tower, not ModifiedResNet and TextTransformer; use format=open_clip",
        ),
        (
            "huggingface",
            "vit",
            {"text_encoder": {"_target_": "x.HFText"}},
            "not VisionTransformer and HFText; use format=safetensors",
        ),
        ("huggingface", "vit", {"init_logit_bias": -10.0}, "this model has a logit bias"),
        ("openai", "vit", {"init_logit_bias": -10.0}, "this model has a logit bias; use format=open_clip"),
        ("openai", "vit", {"image_mean": [0.5, 0.5, 0.5]}, "another mean or deviation"),
        ("openai", "vit", {"text_encoder": {"heads": 2}}, "text heads of another width than 64"),
        ("openai", "vit", {"text_encoder": {"activation": "gelu"}}, "activation gelu"),
        ("open_clip", "vit", {"text_encoder": {"activation": "gelu"}}, "QuickGELU in both towers or in none"),
        (
            "open_clip",
            "vit",
            {"text_encoder": {"_target_": "x.HFText"}},
            "CLIP's own towers, not VisionTransformer and HF",
        ),
        (
            "openai",
            "vit",
            {"text_encoder": {"_target_": "x.HFText"}},
            "CLIP's own towers, not VisionTransformer and HF",
        ),
        ("onnx", "vit", {"text_encoder": {"_target_": "x.HFText"}}, "own text tower, not HFText"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    form: str, kind: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    weights, model = weights_of(tiny_config(kind))
    text = {**weights.model["text_encoder"], **changes.pop("text_encoder", {})}
    changed = Weights({**weights.model, **changes, "text_encoder": text}, TOKENIZER, weights.state, "tiny.pt")
    with pytest.raises(ValueError, match=message):
        write(form, tmp_path / "out", changed, model)
    assert not (tmp_path / "out").exists()


PREPARED = "cliplab.data.transforms"


def prepared(transform: dict[str, Any]) -> tuple[Weights, CLIP]:
    weights, model = weights_of(tiny_config("vit"))
    return replace(weights, transform=transform), model


@torch.no_grad()
@pytest.mark.parametrize(
    "transform",
    [
        {"_target_": f"{PREPARED}.SquashTransform"},
        {"_target_": f"{PREPARED}.SquashTransform", "interpolation": "bilinear"},
        {"_target_": f"{PREPARED}.FitTransform", "fill": 127},
        {"_target_": f"{PREPARED}.EvalTransform", "interpolation": "bilinear"},
    ],
)
def test_open_clip_prepares_pictures_as_the_model_does(transform: dict[str, Any], tmp_path: Path) -> None:
    weights, model = prepared(transform)
    write("open_clip", tmp_path, weights, model)
    whole, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    theirs, ours = prepare(picture()), build({**transform, "image_size": 32}, "transform")(picture())
    torch.testing.assert_close(theirs * model.image_std + model.image_mean, ours / 255, atol=1e-5, rtol=0)
    assert read_pretrained(str(tmp_path)).transform == transform
    embedded = whole.eval().encode_image(theirs.unsqueeze(0), normalize=True)
    torch.testing.assert_close(embedded, model.encode_image(ours.unsqueeze(0)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "transform",
    [
        {"_target_": f"{PREPARED}.SquashTransform", "interpolation": "bilinear"},
        {"_target_": f"{PREPARED}.SquashTransform", "size": [40, 48], "crop_rounding": "down"},
        {"_target_": f"{PREPARED}.EvalTransform", "short_side": 40, "crop_rounding": "down"},
        {"_target_": f"{PREPARED}.CropTransform", "crop_rounding": "down"},
    ],
)
def test_transformers_prepares_pictures_as_the_model_does(transform: dict[str, Any], tmp_path: Path) -> None:
    weights, model = prepared(transform)
    write("huggingface", tmp_path, weights, model)
    theirs = CLIPProcessor.from_pretrained(tmp_path)(images=picture(), return_tensors="pt")["pixel_values"][0]
    ours = build({**transform, "image_size": 32}, "transform")(picture()) / 255
    difference = (theirs - (ours - model.image_mean) / model.image_std).abs()
    assert difference.max() < 0.05  # its resize works on tensors, ours is Pillow's
    assert read_pretrained(str(tmp_path)).transform == transform


@pytest.mark.parametrize(
    ("form", "kind", "options"),
    [
        ("open_clip", "EvalTransform", {"short_side": 40}),
        ("open_clip", "SquashTransform", {"size": [40, 40]}),
        ("open_clip", "SquashTransform", {"interpolation": "lanczos"}),
        ("open_clip", "CropTransform", {}),
        ("huggingface", "FitTransform", {"fill": 127}),
    ],
)
def test_preprocessing_that_a_format_cannot_state_is_refused(
    form: str, kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    weights, model = prepared({"_target_": f"{PREPARED}.{kind}", **options})
    with pytest.raises(ValueError, match=f"format={form}: it cannot state this model's preprocessing, {kind}"):
        write(form, tmp_path / form, weights, model)
    assert not (tmp_path / form).exists()


def test_our_own_format_keeps_any_preprocessing_and_openai_s_has_no_place_for_it(tmp_path: Path) -> None:
    other, model = prepared({"_target_": "x.Squash", "size": [3, 4]})
    with pytest.raises(ValueError, match="its preprocessing is not this model's Squash"):
        write("openai", tmp_path / "openai", other, model)
    write("safetensors", tmp_path / "own", other, model)
    assert read_pretrained(str(tmp_path / "own")).transform == other.transform
