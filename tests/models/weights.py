"""Small models with random weights, and the same weights in other people's."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import hydra
import open_clip
import torch
from torch import nn
from transformers import CLIPModel

from cliplab.checkpoints.huggingface import write_clip_folder
from cliplab.checkpoints.open_clip import to_model_cfg
from cliplab.checkpoints.openai import to_openai
from cliplab.checkpoints.weights import RESNET, TEXT, VIT, clip_config
from cliplab.models.clip import CLIP

TOWERS: dict[str, dict[str, Any]] = {
    "vit": {"_target_": VIT, "image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 1}
    | {"activation": "quick_gelu"},
    "resnet": {"_target_": RESNET, "image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "heads": 8},
}


def tiny_config(kind: str, **text: Any) -> dict[str, Any]:
    language = {"_target_": TEXT, "vocab_size": 49408, "context_length": 77, "width": 64, "layers": 2, "heads": 1}
    return clip_config(
        image_encoder={**TOWERS[kind], "output_dim": 32},
        text_encoder={**language, "activation": "quick_gelu", "output_dim": 32, **text},
        embed_dim=32,
    )


def randomise(model: nn.Module) -> None:
    """Every parameter and statistic away from its initial value, so that a forgotten bias or gain shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            spread = 0.02 if p.ndim >= 2 else 0.1
            p.add_(torch.randn(p.shape, generator=generator) * spread * (name != "logit_scale"))
        for name, b in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                b.add_(torch.rand(b.shape, generator=generator) * 0.2)
            elif name.endswith("num_batches_tracked"):
                b.add_(7)


def built(config: dict[str, Any]) -> CLIP:
    """The same weights whenever the config is the same."""
    model = copy.deepcopy(_built(json.dumps(config, sort_keys=True)))
    torch.manual_seed(0)
    return model


@functools.cache
def _built(config: str) -> CLIP:
    torch.manual_seed(0)
    model = hydra.utils.instantiate(json.loads(config), _convert_="all")
    randomise(model)
    return model


def tiny(kind: str) -> CLIP:
    """A CLIP of a few thousand weights with a ViT or a ResNet."""
    return built(tiny_config(kind))


def open_clip_twin(model: CLIP, config: dict[str, Any]) -> nn.Module:
    """open_clip's own model with the same weights."""
    twin = open_clip.model.CLIP(**to_model_cfg(config))
    twin.load_state_dict(to_openai(config, model.state_dict()))
    return twin


def transformers_twin(model: CLIP, config: dict[str, Any], folder: Path) -> CLIPModel:
    """The ``CLIPModel`` that transformers reads from our folder."""
    write_clip_folder(folder, config, model.state_dict())
    twin, report = CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return twin.eval()
