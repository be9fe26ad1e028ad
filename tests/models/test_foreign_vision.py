"""timm's and transformers' models as the image tower: sizes, normalisation, gradients, groups."""

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from cliplab.models.clip import CLIP
from cliplab.models.hf_vision import HFVisionEncoder
from cliplab.models.pooling import FirstPooling, MeanPooling
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.timm_vision import TimmVisionEncoder

LINEAR = partial(nn.Linear, bias=False)
VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
TOWERS = {
    "vit": ({"model_type": "vit", **VIT, "image_size": 32}, FirstPooling()),
    "dinov2": ({"model_type": "dinov2", **VIT, "image_size": 32}, FirstPooling()),
    "resnet": (
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        None,
    ),
    "convnext": ({"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, None),
    "swin": (
        {
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "window_size": 2,
            "image_size": 32,
        },
        MeanPooling(),
    ),
}


def hf(family: str, **changes) -> HFVisionEncoder:
    architecture, pooling = TOWERS[family]
    settings = {
        "architecture": architecture,
        "source": None,
        "pretrained": False,
        "image_size": 32,
        "image_mean": (0.4, 0.5, 0.6),
        "image_std": (0.2, 0.3, 0.4),
        "pooling": pooling,
        "projection": LINEAR,
        "output_dim": 8,
    }
    return HFVisionEncoder(**{**settings, **changes})


def with_timm(name: str, **changes) -> TimmVisionEncoder:
    settings = {"name": name, "pretrained": False, "image_size": None, "projection": LINEAR, "output_dim": 8}
    return TimmVisionEncoder(**{**settings, **changes})


def check_tower(tower: nn.Module, size: int) -> None:
    embeds = tower(torch.randn(2, 3, size, size))
    assert embeds.shape == (2, 8)
    embeds.pow(2).sum().backward()
    assert not [name for name, p in tower.named_parameters() if p.grad is None and p.requires_grad]
    groups = tower.layer_groups()
    assert sorted(map(id, tower.parameters())) == sorted(id(p) for group in groups for p in group)
    assert [id(p) for p in groups[-1]] == [id(p) for p in tower.projection.parameters()]
    assert len(groups) > 2


@pytest.mark.parametrize("family", TOWERS)
def test_hugging_face_towers_train_whole(family: str) -> None:
    check_tower(hf(family), 32)


@pytest.mark.parametrize("family", ["vit", "dinov2"])
def test_hugging_face_transformers_take_another_size(family: str) -> None:
    check_tower(hf(family, image_size=48), 48)


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_vit", 96), ("test_resnet", 64), ("test_convnext", 64), ("test_efficientnet", 64), ("test_vit2", 32)],
)
def test_timm_towers_train_whole_at_any_size_and_build_on_meta(name: str, size: int) -> None:
    check_tower(with_timm(name, image_size=size), size)
    with torch.device("meta"):
        assert with_timm(name, pretrained=True).image_size == timm.get_pretrained_cfg(name).input_size[-1]


def test_timm_features_are_timm_s() -> None:
    tower = with_timm("test_resnet", projection=lambda width, output_dim: nn.Identity()).eval()
    plain = timm.create_model("test_resnet", num_classes=0).eval()
    plain.load_state_dict(tower.backbone.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(tower(images), plain(images))


def test_normalisation_is_the_tower_s_own() -> None:
    text = TextTransformer(vocab_size=20, context_length=8, width=8, layers=1, heads=1, output_dim=8)
    model = CLIP(hf("vit"), text, embed_dim=8)
    assert model.image_mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert model.image_std.flatten().tolist() == pytest.approx([0.2, 0.3, 0.4])
    own = CLIP(with_timm("test_vit"), text, embed_dim=8)
    assert own.image_mean.flatten().tolist() == pytest.approx(timm.get_pretrained_cfg("test_vit").mean)
    stated = CLIP(hf("vit"), text, embed_dim=8, image_mean=(0.1, 0.1, 0.1))
    assert stated.image_mean.flatten().tolist() == pytest.approx([0.1] * 3)


def test_source_s_known_values_and_weights(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel, ViTImageProcessorPil

    values = dict(TOWERS["vit"][0])
    theirs = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values)).eval()
    theirs.save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.1] * 3, image_std=[0.9] * 3).save_pretrained(
        tmp_path
    )
    node = {"source": str(tmp_path)} | dict.fromkeys(("architecture", "image_size", "image_mean", "image_std"))
    own = HFVisionEncoder.known_values(node)
    assert own["architecture"]["patch_size"] == 8
    assert (own["image_size"], own["image_mean"], own["image_std"]) == (32, [0.1] * 3, [0.9] * 3)
    tower = hf("vit", **node, pretrained=True, projection=lambda width, output_dim: nn.Identity()).eval()
    assert (tower.image_size, tower.image_mean) == (32, (0.1, 0.1, 0.1))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(tower(images), theirs(images).last_hidden_state[:, 0])


def test_errors_name_the_way_on() -> None:
    with pytest.raises(ValueError, match="timm has no model 'resnet19'; there are"):
        with_timm("resnet19")
    with pytest.raises(ValueError, match=r"cannot give test_vit.*pretrained=false"):
        with_timm("test_vit", pretrained=True)
    with pytest.raises(ValueError, match="without a source state image_size, image_mean and image_std"):
        hf("vit", image_mean=None)
    with pytest.raises(ValueError, match="'bert' model, which reads text"):
        hf("vit", architecture={"model_type": "bert"})
    assert TimmVisionEncoder.known_values({"name": "test_resnet", "image_size": None}) == {"image_size": 160}
