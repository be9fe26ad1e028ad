"""SigLIP's weights: open_clip's around a timm tower, and transformers' SiglipModel."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliplab.checkpoints.huggingface import image_processor, join_qkv
from cliplab.checkpoints.io import read_folder_state
from cliplab.checkpoints.openai import block_names
from cliplab.checkpoints.weights import Weights, clip_config, mlp_ratio, renamed, statistics

VISION = "cliplab.models.siglip.SiglipVisionTransformer"
LANGUAGE = "cliplab.models.siglip.SiglipTextTransformer"
TOKENIZER = "cliplab.data.tokenizers.SiglipTokenizer"
SQUASH = "cliplab.data.transforms.SquashTransform"
HALF = (0.5, 0.5, 0.5)
TRUNK_BLOCK = {
    "ln_1": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "ln_2": "norm2",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
}
TRUNK = {
    "patch_embedding": "patch_embed.proj",
    "ln_post": "norm",
    "pool.query": "attn_pool.q",
    "pool.key_value": "attn_pool.kv",
    "pool.out": "attn_pool.proj",
    "pool.ln": "attn_pool.norm",
    "pool.mlp_in": "attn_pool.mlp.fc1",
    "pool.mlp_out": "attn_pool.mlp.fc2",
}
LAYER = {
    "ln_1": "layer_norm1",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
}
HEAD = {
    "pool.out": "head.attention.out_proj",
    "pool.ln": "head.layernorm",
    "pool.mlp_in": "head.mlp.fc1",
    "pool.mlp_out": "head.mlp.fc2",
    "patch_embedding": "embeddings.patch_embedding",
    "ln_post": "post_layernorm",
}


def _both(names: Mapping[str, str], own: str, other: str) -> dict[str, str]:
    return {f"{own}{a}.{kind}": f"{other}{b}.{kind}" for a, b in names.items() for kind in ("weight", "bias")}


def trunk_names(model: Mapping[str, Any]) -> dict[str, str]:
    """Our name -> open_clip's, without the ``text.`` before the text tower's."""
    names = {"logit_scale": "logit_scale", "logit_bias": "logit_bias"}
    names |= _both(TRUNK, "image_encoder.", "visual.trunk.")
    names["image_encoder.positional_embedding"] = "visual.trunk.pos_embed"
    names["image_encoder.pool.probe"] = "visual.trunk.attn_pool.latent"
    for i in range(model["image_encoder"]["layers"]):
        names |= _both(TRUNK_BLOCK, f"image_encoder.blocks.{i}.", f"visual.trunk.blocks.{i}.")
    names["text_encoder.token_embedding.weight"] = "token_embedding.weight"
    names["text_encoder.positional_embedding"] = "positional_embedding"
    names |= _both({"ln_final": "ln_final", "projection": "text_projection"}, "text_encoder.", "")
    return names | block_names("text_encoder.blocks", "transformer.resblocks", model["text_encoder"]["layers"])


def model_names(model: Mapping[str, Any]) -> dict[str, str]:
    """Our name -> transformers', projections split into q, k and v; those of the probe are handled beside."""
    names = {"logit_scale": "logit_scale", "logit_bias": "logit_bias"}
    names |= _both(HEAD, "image_encoder.", "vision_model.")
    names["image_encoder.positional_embedding"] = "vision_model.embeddings.position_embedding.weight"
    names["image_encoder.pool.probe"] = "vision_model.head.probe"
    names["text_encoder.token_embedding.weight"] = "text_model.embeddings.token_embedding.weight"
    names["text_encoder.positional_embedding"] = "text_model.embeddings.position_embedding.weight"
    names |= _both({"ln_final": "final_layer_norm", "projection": "head"}, "text_encoder.", "text_model.")
    for own, other in (("image_encoder", "vision_model"), ("text_encoder", "text_model")):
        for i in range(model[own]["layers"]):
            names |= _both(LAYER, f"{own}.blocks.{i}.", f"{other}.encoder.layers.{i}.")
    for kind in ("weight", "bias"):  # one matrix there: query above key and value
        names[f"image_encoder.pool.in.{kind}"] = f"vision_model.head.attention.in_proj_{kind}"
    return names


def _shaped(ours: dict[str, Tensor], model: Mapping[str, Any]) -> dict[str, Tensor]:
    """Kernels flattened and single axes dropped, as our towers have them."""
    ours["image_encoder.patch_embedding.weight"] = ours["image_encoder.patch_embedding.weight"].flatten(1)
    for key in ("image_encoder.positional_embedding", "image_encoder.pool.probe"):
        ours[key] = ours[key].flatten(0, -2) if ours[key].ndim > 2 else ours[key]
    ours["image_encoder.pool.probe"] = ours["image_encoder.pool.probe"].flatten()
    for key in ("logit_scale", "logit_bias"):
        ours[key] = ours[key].reshape(())
    return ours | statistics(model)


def from_trunk(model: Mapping[str, Any], theirs: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """open_clip's names to ours. Raises ValueError listing missing and extra keys."""
    return _shaped(renamed(trunk_names(model), theirs, source, lambda key: False), model)


def from_siglip_model(model: Mapping[str, Any], theirs: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """``SiglipModel``'s names to ours. Raises ValueError listing missing and extra keys."""
    known = {key: value for key, value in theirs.items() if not key.endswith("position_ids")}
    ours = join_qkv(renamed(model_names(model), known, source, lambda key: False))
    for kind in ("weight", "bias"):
        query, key, value = ours.pop(f"image_encoder.pool.in.{kind}").chunk(3)
        ours[f"image_encoder.pool.query.{kind}"] = query
        ours[f"image_encoder.pool.key_value.{kind}"] = torch.cat([key, value])
    return _shaped(ours, model)


def looks_siglip(cfg: Mapping[str, Any]) -> bool:
    return "siglip" in str(cfg["vision_cfg"].get("timm_model_name")) and cfg["vision_cfg"].get("timm_pool") == "map"


def _shown_image(state: Mapping[str, Tensor], size: int, heads: int) -> dict[str, Any]:
    kernel = state["visual.trunk.patch_embed.proj.weight"]
    width, blocks = kernel.shape[0], r"visual\.trunk\.blocks\.(\d+)\."
    return {
        "_target_": VISION,
        "image_size": size,
        "patch_size": kernel.shape[-1],
        "width": width,
        "layers": len({m[1] for key in state if (m := re.match(blocks, key))}),
        "heads": heads,
        "output_dim": width,
        "mlp_ratio": mlp_ratio(state["visual.trunk.blocks.0.mlp.fc1.weight"].shape[0], width),
        "activation": "gelu",  # timm's towers
    }


def read_trunk(
    cfg: Mapping[str, Any], preprocess: Mapping[str, Any], state: Mapping[str, Tensor], source: str, folder: str | None
) -> Weights:
    """open_clip's SigLIP by its config. The tokenizer is ``folder``'s, or the hub's that the config names.

    Raises ValueError listing keys that do not fit, or naming a preprocessing that is not SigLIP's.
    """
    mode = preprocess.get("resize_mode", "squash")
    if mode != "squash" or preprocess.get("interpolation", "bicubic") != "bicubic":
        raise ValueError(f"{source}: preprocessing {dict(preprocess)} is not SigLIP's, which squashes, bicubic")
    text = cfg["text_cfg"]
    if text.get("proj_type") == "none":
        state = {**_identity(cfg["embed_dim"]), **state}
    try:
        image = _shown_image(state, cfg["vision_cfg"]["image_size"], _trunk_heads(cfg["vision_cfg"]["timm_model_name"]))
        kernel = state["transformer.resblocks.0.mlp.c_fc.weight"]
    except KeyError as error:
        raise ValueError(f"{source}: the keys are not those of this architecture; missing: {error.args[0]}") from error
    tanh = (text.get("act_kwargs") or {}).get("approximate") == "tanh"
    language = {key: text[key] for key in ("vocab_size", "context_length", "width", "layers", "heads")}
    language |= {"mlp_ratio": mlp_ratio(*kernel.shape), "activation": "gelu_tanh" if tanh else "gelu"}
    model = clip_config(
        image_encoder=image,
        text_encoder={"_target_": LANGUAGE, **language, "output_dim": cfg["embed_dim"]},
        embed_dim=cfg["embed_dim"],
        mean=preprocess.get("mean", HALF),
        std=preprocess.get("std", HALF),
        init_logit_bias=float(cfg.get("init_logit_bias", 0.0)),
    )
    tokenizer = tokenizer_config(folder or text["hf_tokenizer_name"], text["context_length"])
    return Weights(model, tokenizer, from_trunk(model, state, source), source, transform=SQUASH)


def _identity(width: int) -> dict[str, Tensor]:
    """A projection that changes nothing, for models without one."""
    return {"text_projection.weight": torch.eye(width), "text_projection.bias": torch.zeros(width)}


def _trunk_heads(name: str) -> int:
    """Heads of a timm SigLIP tower, which the state dict does not show."""
    import timm

    with torch.device("meta"):
        tower: Any = timm.create_model(name, num_classes=0)
    return int(tower.blocks[0].attn.num_heads)


def tokenizer_config(source: str, context_length: int) -> dict[str, Any]:
    return {"_target_": TOKENIZER, "source": source, "context_length": context_length}


def _sizes(part: Any, where: str, source: str) -> dict[str, Any]:
    activations = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
    if part.hidden_act not in activations:
        raise ValueError(
            f"{source}: {where}.hidden_act is {part.hidden_act!r}; SigLIP's towers have {list(activations)}"
        )
    if part.layer_norm_eps != 1e-6:
        raise ValueError(f"{source}: {where}.layer_norm_eps is {part.layer_norm_eps}; SigLIP's towers have 1e-6")
    return {
        "width": part.hidden_size,
        "layers": part.num_hidden_layers,
        "heads": part.num_attention_heads,
        "mlp_ratio": mlp_ratio(part.intermediate_size, part.hidden_size),
        "activation": activations[part.hidden_act],
    }


def read_siglip_folder(folder: Path) -> Weights:
    """A folder that ``SiglipModel.save_pretrained`` wrote, with its tokenizer's files. Raises ValueError as above."""
    from cliplab.checkpoints.huggingface import siglip_config

    source = str(folder)
    config = siglip_config(json.loads((folder / "config.json").read_text(encoding="utf8")))
    vision, text, processor = config.vision_config, config.text_config, image_processor(folder)
    image = {"_target_": VISION, "image_size": vision.image_size, "patch_size": vision.patch_size}
    language = {"_target_": LANGUAGE, "vocab_size": text.vocab_size, "context_length": text.max_position_embeddings}
    model = clip_config(
        image_encoder=image | _sizes(vision, "vision_config", source) | {"output_dim": vision.hidden_size},
        text_encoder=language | _sizes(text, "text_config", source) | {"output_dim": text.projection_size},
        embed_dim=vision.hidden_size,
        mean=processor.get("image_mean", HALF),
        std=processor.get("image_std", HALF),
        init_logit_bias=0.0,
    )
    state = from_siglip_model(model, read_folder_state(folder, "model"), source)
    tokenizer = tokenizer_config(source, text.max_position_embeddings)
    return Weights(model, tokenizer, state, source, transform=SQUASH)
