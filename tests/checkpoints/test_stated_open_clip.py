"""A setting that an open_clip folder states is used, or refused by file and name; it is never ignored."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

import cliplab
from cliplab.checkpoints import siglip
from cliplab.checkpoints.stated import Stated
from tests.checkpoints.folders import TEXTS, WORDS, edit, open_clip_features, open_clip_folder, pictures, word_tokenizer

FILE = "open_clip_config.json"
SIZES = {"width": 32, "layers": 2}
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {**SIZES, "image_size": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {**SIZES, "context_length": 20, "vocab_size": 49408, "heads": 2},
}
SIGLIP = {
    "embed_dim": 32,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 32, "timm_model_name": "vit_tiny_siglip_toy", "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {**SIZES, "context_length": 16, "vocab_size": len(WORDS), "heads": 2, "no_causal_mask": True}
    | {"proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}, "hf_tokenizer_name": "x/y"}
    | {"tokenizer_kwargs": {"clean": "canonicalize"}},
}
SQUASHED = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "interpolation": "bicubic", "size": 32}


@register_model
def vit_tiny_siglip_toy(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "act_layer": "gelu_tanh"}
    given = {key: value for key, value in kwargs.items() if key in ("num_classes", "global_pool", "drop_rate")}
    return VisionTransformer(**{**sizes, "class_token": False, "global_pool": "map", **given})


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("open_clip")
    word_tokenizer(open_clip_folder(root / "siglip", copy.deepcopy(SIGLIP), SQUASHED))
    return {"clip": open_clip_folder(root / "clip", copy.deepcopy(CLIP), {"size": 32}), "siglip": root / "siglip"}


def same(**values: Any) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in values.items()}


BOTH = {
    "as written": {},
    "bilinear": same(preprocess_cfg__interpolation="bilinear"),
    "random is bicubic": same(preprocess_cfg__interpolation="random"),
    "squash": same(preprocess_cfg__resize_mode="squash"),
    "shortest": same(preprocess_cfg__resize_mode="shortest"),
    "longest": same(preprocess_cfg__resize_mode="longest", preprocess_cfg__fill_color=90),
    "mean and deviation": same(preprocess_cfg__mean=[0.1, 0.2, 0.3], preprocess_cfg__std=[0.4, 0.5, 0.6]),
    "all of a squash at once": same(
        preprocess_cfg={"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "squash", "size": [32, 32]}
        | {"interpolation": "bilinear", "fill_color": 70, "mode": "RGB"}
    ),
    "all of a fit at once": same(
        preprocess_cfg={"mean": [0.3, 0.2, 0.1], "std": [0.6, 0.5, 0.4], "resize_mode": "longest", "size": [32, 32]}
        | {"interpolation": "bilinear", "fill_color": 200}
    ),
    "all of a crop at once": same(
        preprocess_cfg={"mean": [0.2] * 3, "std": [0.7] * 3, "resize_mode": "shortest", "size": [32, 32]}
        | {"interpolation": "bilinear", "fill_color": 70}
    ),
    "no preprocessing": same(preprocess_cfg={}),
    "training only": same(model_cfg__vision_cfg__patch_dropout=0.0, model_cfg__vision_cfg__timm_drop=0.0),
    "epsilon of texts": same(model_cfg__text_cfg__norm_kwargs={"eps": 0.3}),
    "tanh in texts": same(model_cfg__text_cfg__act_kwargs={"approximate": "tanh"}),
    "quick gelu": same(model_cfg__quick_gelu=True),
    "heads": same(model_cfg__text_cfg__heads=4),
    "canonical texts": same(model_cfg__text_cfg__tokenizer_kwargs={"clean": "canonicalize"}),
    "scale and bias": same(model_cfg__init_logit_scale=1.0, model_cfg__output_dict=False),
    "nothing off": same(model_cfg__text_cfg__ls_init_value=None, model_cfg__text_cfg__embed_cls=False)
    | same(model_cfg__text_cfg__output_tokens=False, model_cfg__vision_cfg__qk_norm=False),
}
OF_CLIP = {
    "head width": same(model_cfg__vision_cfg__head_width=8),
    "tanh in pictures": same(model_cfg__vision_cfg__act_kwargs={"approximate": "tanh"}),
    "epsilon of pictures": same(model_cfg__vision_cfg__norm_kwargs={"eps": 0.3}),
    "pooled at a stated end": same(model_cfg__text_cfg__pool_type="eos", model_cfg__text_cfg__eos_id=49407),
    "sides of a square": same(model_cfg__vision_cfg__image_size=[32, 32], preprocess_cfg__size=[32, 32]),
    "no tower of timm's": same(model_cfg__vision_cfg__timm_model_name="", model_cfg__vision_cfg__timm_pool="avg"),
    "norm after the pool": same(model_cfg__vision_cfg__final_ln_after_pool=True),
}
OF_SIGLIP = {
    "capitals": same(model_cfg__text_cfg__tokenizer_kwargs={"clean": "whitespace"}),
    "cleaned as its class does": same(model_cfg__text_cfg__tokenizer_kwargs=...),
    "lower": same(model_cfg__text_cfg__tokenizer_kwargs={"clean": "lower"}),
}
SAME = [(f, n, c) for f in ("clip", "siglip") for n, c in BOTH.items()] + [("clip", n, c) for n, c in OF_CLIP.items()]
SAME += [("siglip", n, c) for n, c in OF_SIGLIP.items()]


@pytest.mark.parametrize(("family", "case", "changes"), SAME, ids=[f"{family}-{name}" for family, name, _ in SAME])
def test_features_are_those_of_open_clip(
    family: str, case: str, changes: dict[str, Any], bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(bases[family], folder)
    edit(folder / FILE, changes)
    model = cliplab.load(str(folder), device="cpu", progress=False)
    theirs = open_clip_features(folder)
    np.testing.assert_allclose(model.embed_images(pictures()), theirs[0], atol=2e-5)
    np.testing.assert_allclose(model.embed_texts(TEXTS), theirs[1], atol=2e-5)


TOP, VISION, TEXT, PICTURES = "model_cfg", "model_cfg.vision_cfg", "model_cfg.text_cfg", "preprocess_cfg"
REFUSED: dict[tuple[str, str, str], Any] = {
    ("both", TOP, "glu"): True,
    ("both", TOP, "multimodal_cfg"): {"width": 8},
    ("both", TEXT, "ls_init_value"): 1e-4,
    ("both", TEXT, "embed_cls"): True,
    ("both", TEXT, "output_tokens"): True,
    ("both", TEXT, "qk_norm"): True,
    ("both", TEXT, "scale_fc"): True,
    ("both", TEXT, "block_type"): "custom",
    ("both", TEXT, "pool_type"): "first",
    ("both", TEXT, "hf_model_name"): "roberta-base",
    ("both", TEXT, "tokenizer_mode"): "clips",
    ("both", TEXT, "tokenizer_kwargs"): {"language": "fr"},
    ("both", TEXT, "act_kwargs"): {"inplace": True},
    ("both", TEXT, "norm_kwargs"): {"bias": False},
    ("both", TEXT, "gated"): 1,
    ("both", VISION, "gated"): 1,
    ("both", PICTURES, "size"): 40,
    ("both", PICTURES, "mode"): "L",
    ("both", PICTURES, "interpolation"): "lanczos",
    ("both", PICTURES, "resize_mode"): "stretch",
    ("both", PICTURES, "std"): [0.0, 1.0, 1.0],
    ("both", PICTURES, "crop_pct"): 0.9,
    ("clip", VISION, "ls_init_value"): 1e-4,
    ("clip", VISION, "attentional_pool"): True,
    ("clip", VISION, "no_ln_pre"): True,
    ("clip", VISION, "pool_type"): "avg",
    ("clip", VISION, "output_tokens"): True,
    ("clip", VISION, "timm_model_name"): "resnet50",
    ("clip", TEXT, "no_causal_mask"): True,
    ("clip", TEXT, "tokenizer_kwargs"): {"clean": "whitespace"},  # its capitals would be other tokens
    ("clip", TEXT, "proj_type"): "none",
    ("clip", TEXT, "proj_bias"): True,
    ("clip", TEXT, "pool_type"): "eos",
    ("clip", TEXT, "hf_tokenizer_name"): "bert-base-uncased",
    ("siglip", VISION, "timm_proj"): "",
    ("siglip", TEXT, "no_causal_mask"): False,
    ("siglip", TEXT, "proj_bias"): False,
    ("siglip", TEXT, "pool_type"): "argmax",
}
CASES = [
    (family, *key[1:], value)
    for key, value in REFUSED.items()
    for family in ("clip", "siglip")
    if key[0] in ("both", family)
]


@pytest.mark.parametrize(("family", "part", "key", "value"), CASES)
def test_what_cannot_be_followed_is_refused_by_file_and_field(
    family: str, part: str, key: str, value: Any, bases: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(bases[family], tmp_path, dirs_exist_ok=True)
    edit(tmp_path / FILE, {f"{part}.{key}": value})
    field = "eos_id" if value == "eos" else key
    with pytest.raises(ValueError, match=f"^{tmp_path / FILE}: {part}.{field}[. ]"):
        cliplab.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize("value", [..., None, "linear"])
def test_a_projection_that_open_clip_adds_by_default_is_refused(
    value: Any, bases: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(bases["siglip"], tmp_path, dirs_exist_ok=True)
    edit(tmp_path / FILE, {f"{VISION}.timm_proj": value})
    with pytest.raises(ValueError, match=f"{FILE}: {VISION}.timm_proj is 'linear'; "):
        cliplab.load(str(tmp_path), device="cpu")


def test_a_bias_may_be_stated_as_a_whole_number(tmp_path: Path) -> None:
    folder = open_clip_folder(tmp_path, {**copy.deepcopy(CLIP), "init_logit_bias": -10}, {"size": 32})
    assert cliplab.load(str(folder), device="cpu").model.logit_bias.item() == pytest.approx(-10, abs=0.5)


def test_a_timm_towers_heads_and_activation_come_from_timm() -> None:
    tower = {"activation": "gelu", "heads": 12}
    assert siglip._timm_tower("vit_base_patch16_siglip_224", Stated({}, "f")) == tower
    assert siglip._timm_tower("vit_base_patch32_siglip_256", Stated({}, "f")) == {**tower, "activation": "gelu_tanh"}
    for name in ("vit_base_patch16_224", "resnet50", "nothing"):
        with pytest.raises(ValueError, match=f"^f: timm_model_name is '{name}'; "):
            siglip._timm_tower(name, Stated({}, "f"))
    with torch.device("meta"):
        assert timm.create_model("vit_tiny_siglip_toy", num_classes=0).norm.eps == 1e-6


def test_a_broken_model_cfg_is_told(bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(bases["clip"], tmp_path, dirs_exist_ok=True)
    (tmp_path / FILE).write_text(json.dumps({"model_cfg": {"embed_dim": 24}}))
    with pytest.raises(ValueError, match=f"{FILE}: it has no whole model_cfg"):
        cliplab.load(str(tmp_path))
    (tmp_path / FILE).write_text('{"model_cfg": ')
    with pytest.raises(ValueError, match=f"{FILE}: this is not JSON .Expecting value"):
        cliplab.load(str(tmp_path))
