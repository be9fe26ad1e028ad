"""OpenAI's state dict, which open_clip's own towers share: its names, the sizes it shows, and how to write it."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliplab.checkpoints.weights import (
    RESNET,
    TEXT,
    VIT,
    Weights,
    check_sizes,
    clip_config,
    mlp_ratio,
    renamed,
    statistics,
    tokenizer_config,
)

HEAD_WIDTH = 64
BLOCK = {
    "ln_1": "ln_1",
    "attention.out": "attn.out_proj",
    "ln_2": "ln_2",
    "mlp_in": "mlp.c_fc",
    "mlp_out": "mlp.c_proj",
}
STEM = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
POOL = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "c_proj"}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
LEFTOVERS = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's archives, not weights


def block_names(ours: str, theirs: str, layers: int) -> dict[str, str]:
    names = {}
    for i in range(layers):
        for kind in ("weight", "bias"):
            names[f"{ours}.{i}.attention.qkv.{kind}"] = f"{theirs}.{i}.attn.in_proj_{kind}"
            names |= {f"{ours}.{i}.{a}.{kind}": f"{theirs}.{i}.{b}.{kind}" for a, b in BLOCK.items()}
    return names


def _vit(layers: int) -> dict[str, str]:
    names = {
        "image_encoder.patch_embedding.weight": "visual.conv1.weight",
        "image_encoder.class_embedding": "visual.class_embedding",
        "image_encoder.positional_embedding": "visual.positional_embedding",
        "image_encoder.projection": "visual.proj",
    }
    for kind in ("weight", "bias"):
        names |= {f"image_encoder.{norm}.{kind}": f"visual.{norm}.{kind}" for norm in ("ln_pre", "ln_post")}
    return names | block_names("image_encoder.blocks", "visual.transformer.resblocks", layers)


def _resnet(layers: list[int]) -> dict[str, str]:
    def layer(ours: str, theirs: str, norm: bool) -> dict[str, str]:
        return {f"image_encoder.{ours}.{k}": f"visual.{theirs}.{k}" for k in (NORM if norm else ("weight",))}

    names: dict[str, str] = {}
    for own, other in STEM.items():
        names |= layer(f"stem.{own}", other, other.startswith("bn"))
    for stage, blocks in enumerate(layers):
        for i in range(blocks):
            for part in ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3"):
                names |= layer(f"stages.{stage}.{i}.{part}", f"layer{stage + 1}.{i}.{part}", part.startswith("bn"))
        for own, other, norm in (("shortcut.1", "downsample.0", False), ("shortcut.2", "downsample.1", True)):
            names |= layer(f"stages.{stage}.0.{own}", f"layer{stage + 1}.0.{other}", norm)
    names["image_encoder.pool.positional_embedding"] = "visual.attnpool.positional_embedding"
    for own, other in POOL.items():
        for kind in ("weight", "bias"):
            names[f"image_encoder.pool.{own}.{kind}"] = f"visual.attnpool.{other}.{kind}"
    return names


def state_names(model: Mapping[str, Any]) -> dict[str, str]:
    """Our name -> OpenAI's, of every parameter and buffer of a model of native towers (a config of ``CLIP``)."""
    image, text = model["image_encoder"], model["text_encoder"]
    names = {"logit_scale": "logit_scale"}
    if model.get("init_logit_bias") is not None:
        names["logit_bias"] = "logit_bias"
    names |= _vit(image["layers"]) if image["_target_"] == VIT else _resnet(image["layers"])
    names |= {
        "text_encoder.token_embedding.weight": "token_embedding.weight",
        "text_encoder.positional_embedding": "positional_embedding",
        "text_encoder.projection": "text_projection",
        "text_encoder.ln_final.weight": "ln_final.weight",
        "text_encoder.ln_final.bias": "ln_final.bias",
    }
    return names | block_names("text_encoder.blocks", "transformer.resblocks", text["layers"])


def to_openai(model: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors (a state dict, or gradients by our names) under OpenAI's names; mean and std are left out."""
    theirs = {their_name: tensors[ours] for ours, their_name in state_names(model).items() if ours in tensors}
    kernel = theirs.get("visual.conv1.weight")
    if model["image_encoder"]["_target_"] == VIT and kernel is not None:
        p = model["image_encoder"]["patch_size"]
        theirs["visual.conv1.weight"] = kernel.unflatten(1, (3, p, p))
    return theirs


def from_openai(model: Mapping[str, Any], theirs: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """OpenAI's state dict under our names. Raises ValueError listing missing and extra keys."""
    known = {key: value for key, value in theirs.items() if key not in LEFTOVERS and not key.endswith("attn_mask")}
    ours = renamed(state_names(model), known, source, lambda key: key.endswith("num_batches_tracked"))
    for our_name, their_name in state_names(model).items():
        if their_name.endswith("num_batches_tracked"):
            ours.setdefault(our_name, torch.tensor(0))
    kernel = ours.get("image_encoder.patch_embedding.weight")
    if kernel is not None:
        ours["image_encoder.patch_embedding.weight"] = kernel.flatten(1)
    return ours | statistics(model)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for key in state if (found := re.match(pattern, key))})


def _image_tower(state: Mapping[str, Tensor], activation: str, head_width: int) -> dict[str, Any]:
    if "visual.proj" in state:
        width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
        grid = math.isqrt(state["visual.positional_embedding"].shape[0] - 1)
        prefix = r"visual\.transformer\.resblocks\.(\d+)\."
        return {
            "_target_": VIT,
            "image_size": patch * grid,
            "patch_size": patch,
            "width": width,
            "layers": _count(state, prefix),
            "heads": width // head_width,
            "output_dim": state["visual.proj"].shape[1],
            "mlp_ratio": mlp_ratio(state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0], width),
            "activation": activation,
            "patch_dropout": 0.0,
        }
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    grid = math.isqrt(state["visual.attnpool.positional_embedding"].shape[0] - 1)
    return {
        "_target_": RESNET,
        "image_size": grid * 32,
        "layers": [_count(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)],
        "width": width,
        "heads": width * 32 // head_width,
        "output_dim": state["visual.attnpool.c_proj.weight"].shape[0],
    }


def shown_config(
    state: Mapping[str, Tensor], *, activation: str, image_head_width: int = HEAD_WIDTH, text_heads: int | None = None
) -> dict[str, Any]:
    """The model config that follows from the shapes of a state dict. Activation and heads do not, and are given.

    Raises KeyError when a tensor that every such model has is missing.
    """
    width = state["ln_final.weight"].shape[0]
    text: dict[str, Any] = {
        "_target_": TEXT,
        "vocab_size": state["token_embedding.weight"].shape[0],
        "context_length": state["positional_embedding"].shape[0],
        "width": width,
        "layers": _count(state, r"transformer\.resblocks\.(\d+)\."),
        "heads": text_heads or width // HEAD_WIDTH,
        "output_dim": state["text_projection"].shape[1],
        "mlp_ratio": mlp_ratio(state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0], width),
        "activation": activation,
    }
    return clip_config(
        image_encoder=_image_tower(state, activation, image_head_width),
        text_encoder=text,
        embed_dim=text["output_dim"],
        init_logit_bias=0.0 if "logit_bias" in state else None,
    )


def looks_native(state: Mapping[str, Tensor]) -> bool:
    image = "visual.proj" in state or "visual.attnpool.c_proj.weight" in state
    return image and "token_embedding.weight" in state and "text_projection" in state


def read_openai(state: Mapping[str, Tensor], source: str, classes: set[str] | None = None) -> Weights:
    """Read a bare state dict by OpenAI's convention: QuickGELU and heads of width 64, which its shapes do not show.

    ``classes`` are the module classes of a TorchScript archive; a ``QuickGELU`` among them states the activation.
    Raises ValueError listing the keys that do not fit.
    """
    try:
        model = shown_config(state, activation="quick_gelu")
    except KeyError as error:
        raise ValueError(f"{source}: the keys are not those of this architecture; missing: {error.args[0]}") from error
    assumed = ["text_encoder.heads", "image_encoder.heads"]
    if "QuickGELU" not in (classes or ()):
        assumed += ["text_encoder.activation"]
        assumed += ["image_encoder.activation"] if model["image_encoder"]["_target_"] == VIT else []
    check_sizes(model, source)
    text = model["text_encoder"]
    tokenizer = tokenizer_config(text["vocab_size"], text["context_length"], source)
    return Weights(model, tokenizer, from_openai(model, state, source), source, tuple(assumed))


def write_openai(folder: Path, model: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write ``model.pt``, a plain state dict that ``clip.load`` and ``open_clip.load_openai_model`` read.

    Those readers infer activation and heads by convention. Raises ValueError where they would build another model.
    """
    image, text = model["image_encoder"], model["text_encoder"]
    names = [tower["_target_"].rpartition(".")[2] for tower in (image, text)]
    if image["_target_"] not in (VIT, RESNET) or text["_target_"] != TEXT:
        raise ValueError(f"format=openai holds CLIP's own towers, not {' and '.join(names)}; use format=safetensors")
    heads = image["width"] * (32 if image["_target_"] == RESNET else 1) // HEAD_WIDTH
    ratios = [tower.get("mlp_ratio", 4.0) for tower in (image, text)]
    wrong = {
        "activation gelu": {image.get("activation", "quick_gelu"), text["activation"]} != {"quick_gelu"},
        "another epsilon": any(tower.get("norm_eps", 1e-5) != 1e-5 for tower in (image, text)),
        f"image heads of another width than {HEAD_WIDTH}": image["heads"] != heads,
        f"text heads of another width than {HEAD_WIDTH}": text["heads"] != text["width"] // HEAD_WIDTH,
        "an MLP of another width than four times the tower's": any(ratio != 4 for ratio in ratios),
        "a logit bias": model.get("init_logit_bias") is not None,
        "another mean or deviation": not all(
            torch.equal(value, statistics({})[key]) for key, value in statistics(model).items()
        ),
    }
    if any(wrong.values()):
        reasons = ", ".join(reason for reason, there in wrong.items() if there)
        raise ValueError(
            f"format=openai: its readers assume QuickGELU and heads of width 64, and this model has {reasons}; "
            "use format=open_clip"
        )
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({key: value.detach().clone() for key, value in to_openai(model, state).items()}, folder / "model.pt")
