"""The CLIPModel folder of transformers: its names and config, read and written without building the model twice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPProcessor, SiglipConfig

from cliplab.checkpoints.io import read_folder_state, write_safetensors
from cliplab.checkpoints.weights import (
    RESNET,
    TEXT,
    VIT,
    Weights,
    clip_config,
    mlp_ratio,
    renamed,
    statistics,
    tokenizer_config,
)
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.models.clip import CLIP_MEAN, CLIP_STD

BLOCK = {
    "ln_1": "layer_norm1",
    "attention.out": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
}
ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu"}
BICUBIC = 3  # Pillow's number


def _tower_names(own: str, other: str, layers: int) -> dict[str, str]:
    """Our name -> theirs; the fused projection ``qkv`` stands as its first part and is split and joined beside."""
    names: dict[str, str] = {}
    for kind in ("weight", "bias"):
        for i in range(layers):
            block, layer = f"{own}.blocks.{i}", f"{other}.encoder.layers.{i}"
            names |= {f"{block}.{a}.{kind}": f"{layer}.{b}.{kind}" for a, b in BLOCK.items()}
            names |= {f"{block}.attention.{c}.{kind}": f"{layer}.self_attn.{c}_proj.{kind}" for c in "qkv"}
    return names


def state_names(model: Mapping[str, Any]) -> dict[str, str]:
    """Our name -> transformers', with the fused projection split into q, k and v."""
    image, text = model["image_encoder"], model["text_encoder"]
    names = {
        "logit_scale": "logit_scale",
        "image_encoder.projection": "visual_projection.weight",
        "text_encoder.projection": "text_projection.weight",
        "image_encoder.class_embedding": "vision_model.embeddings.class_embedding",
        "image_encoder.patch_embedding.weight": "vision_model.embeddings.patch_embedding.weight",
        "image_encoder.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "text_encoder.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "text_encoder.positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    for kind in ("weight", "bias"):
        names[f"image_encoder.ln_pre.{kind}"] = f"vision_model.pre_layrnorm.{kind}"  # so written there
        names[f"image_encoder.ln_post.{kind}"] = f"vision_model.post_layernorm.{kind}"
        names[f"text_encoder.ln_final.{kind}"] = f"text_model.final_layer_norm.{kind}"
    names |= _tower_names("image_encoder", "vision_model", image["layers"])
    return names | _tower_names("text_encoder", "text_model", text["layers"])


def split_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``….attention.qkv.weight`` of three rows of blocks to ``….attention.q.weight``, ``k`` and ``v``."""
    parts: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attention.qkv." in key:
            for letter, rows in zip("qkv", value.chunk(3), strict=True):
                parts[key.replace(".qkv.", f".{letter}.")] = rows
        else:
            parts[key] = value
    return parts


def join_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``split_qkv``."""
    import torch

    whole: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attention.q." in key:
            rows = [state[key.replace(".q.", f".{letter}.")] for letter in "qkv"]
            whole[key.replace(".q.", ".qkv.")] = torch.cat(rows)
        elif ".attention.k." not in key and ".attention.v." not in key:
            whole[key] = value
    return whole


def to_transformers(model: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under the names of ``CLIPModel``."""
    parts = split_qkv(state)
    theirs = {other: parts[own] for own, other in state_names(model).items()}
    for key in ("visual_projection.weight", "text_projection.weight"):
        theirs[key] = theirs[key].mT
    kernel, p = "vision_model.embeddings.patch_embedding.weight", model["image_encoder"]["patch_size"]
    theirs[kernel] = theirs[kernel].unflatten(1, (3, p, p))
    return theirs


def from_transformers(model: Mapping[str, Any], theirs: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The names of ``CLIPModel`` to ours. Raises ValueError listing missing and extra keys."""
    known = {key: value for key, value in theirs.items() if not key.endswith("position_ids")}
    ours = join_qkv(renamed(state_names(model), known, source, lambda key: False))
    for tower in ("image_encoder", "text_encoder"):
        ours[f"{tower}.projection"] = ours[f"{tower}.projection"].mT.contiguous()
    ours["image_encoder.patch_embedding.weight"] = ours["image_encoder.patch_embedding.weight"].flatten(1)
    return ours | {"logit_scale": ours["logit_scale"].reshape(())} | statistics(model)


def _tower(config: Any, where: str, source: str) -> dict[str, Any]:
    if config.hidden_act not in ACTIVATIONS.values():
        known = ", ".join(ACTIVATIONS.values())
        raise ValueError(f"{source}: {where}.hidden_act is {config.hidden_act!r}; CLIP's towers have {known}")
    if config.layer_norm_eps != 1e-5:
        raise ValueError(f"{source}: {where}.layer_norm_eps is {config.layer_norm_eps}; CLIP's towers have 1e-5")
    return {
        "width": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "mlp_ratio": mlp_ratio(config.intermediate_size, config.hidden_size),
        "activation": config.hidden_act,
    }


def model_config(config: CLIPConfig, processor: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Our model config of a CLIPConfig and a preprocessor_config.json."""
    vision: Any = config.vision_config
    text: Any = config.text_config
    dim = int(config.projection_dim or 0)
    image = {"_target_": VIT, "image_size": vision.image_size, "patch_size": vision.patch_size, "output_dim": dim}
    language = {"_target_": TEXT, "vocab_size": text.vocab_size, "context_length": text.max_position_embeddings}
    return clip_config(
        image_encoder=image | _tower(vision, "vision_config", source) | {"patch_dropout": 0.0},
        text_encoder=language | _tower(text, "text_config", source) | {"output_dim": dim},
        embed_dim=dim,
        mean=processor.get("image_mean", CLIP_MEAN),
        std=processor.get("image_std", CLIP_STD),
    )


def image_processor(folder: Path) -> dict[str, Any]:
    """The image settings of preprocessor_config.json, or of processor_config.json as newer versions write."""
    older, newer = folder / "preprocessor_config.json", folder / "processor_config.json"
    if older.is_file():
        return json.loads(older.read_text(encoding="utf8"))
    return json.loads(newer.read_text(encoding="utf8")).get("image_processor", {}) if newer.is_file() else {}


def read_clip_folder(folder: Path) -> Weights:
    """A folder that ``CLIPModel.save_pretrained`` wrote. Raises ValueError for parts that CLIP's towers lack."""
    source = str(folder)
    config = CLIPConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf8")))
    processor = image_processor(folder)
    if processor.get("resample", BICUBIC) != BICUBIC:
        raise ValueError(f"{source}: the images are resampled by Pillow's {processor['resample']}, not bicubic (3)")
    model = model_config(config, processor, source)
    text = model["text_encoder"]
    tokenizer = tokenizer_config(text["vocab_size"], text["context_length"], source)
    state = from_transformers(model, read_folder_state(folder, "model"), source)
    return Weights(model, tokenizer, state, source)


def siglip_config(values: dict[str, Any]) -> Any:
    """SiglipConfig with its defaults filled in."""
    return SiglipConfig.from_dict(values)


def _checked(model: Mapping[str, Any]) -> None:
    image, text = model["image_encoder"], model["text_encoder"]
    if image["_target_"] != VIT or text["_target_"] != TEXT:
        names = [t["_target_"].rpartition(".")[2] for t in (image, text)]
        raise ValueError(
            f"format=huggingface is CLIPModel, a ViT and a causal text tower, not {' and '.join(names)}; "
            + (
                "use format=open_clip"
                if image["_target_"] == RESNET and text["_target_"] == TEXT
                else "use format=safetensors"
            )
        )
    if model.get("init_logit_bias") is not None:
        raise ValueError("format=huggingface: CLIPModel has no logit bias and this model has; use format=open_clip")


def _sizes(tower: Mapping[str, Any], activation: str) -> dict[str, Any]:
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower.get("mlp_ratio", 4.0)),
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": tower["heads"],
        "hidden_act": ACTIVATIONS[activation],
    }


def write_tokenizer(folder: Path, context_length: int) -> None:
    """CLIP's tokenizer as transformers and the tokenizers library read it."""
    CLIPTokenizer(context_length).library_tokenizer().save_pretrained(folder)


def write_clip_folder(folder: Path, model: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Weights, config, image processor and tokenizer, for ``CLIPModel`` and ``CLIPProcessor.from_pretrained``.

    Raises ValueError naming what CLIPModel cannot hold.
    """
    _checked(model)
    image, text = model["image_encoder"], model["text_encoder"]
    ends = {"bos_token_id": CLIPTokenizer.start_token, "eos_token_id": CLIPTokenizer.end_token}
    config = CLIPConfig(
        vision_config={**_sizes(image, image["activation"]), "image_size": image["image_size"]}
        | {"patch_size": image["patch_size"], "projection_dim": model["embed_dim"]},
        text_config={**_sizes(text, text["activation"]), "vocab_size": text["vocab_size"], **ends}
        | {"max_position_embeddings": text["context_length"], "projection_dim": model["embed_dim"]}
        | {"pad_token_id": CLIPTokenizer.end_token},
        projection_dim=model["embed_dim"],
        architectures=["CLIPModel"],
        dtype="float32",
    )
    size = image["image_size"]
    processor = CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(model.get("image_mean", CLIP_MEAN)),
        image_std=list(model.get("image_std", CLIP_STD)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tokenizer = CLIPTokenizer(text["context_length"]).library_tokenizer()
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    write_safetensors(folder / "model.safetensors", to_transformers(model, state), {"format": "pt"})
