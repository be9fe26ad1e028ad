"""The names of SigLIP's weights: open_clip's around a timm tower, and those of transformers' SiglipModel."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cliplab.checkpoints.huggingface import join_qkv
from cliplab.checkpoints.openai import block_names
from cliplab.checkpoints.weights import renamed, statistics

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


def _weights_and_biases(names: Mapping[str, str], our_prefix: str, their_prefix: str) -> dict[str, str]:
    return {
        f"{our_prefix}{ours}.{kind}": f"{their_prefix}{theirs}.{kind}"
        for ours, theirs in names.items()
        for kind in ("weight", "bias")
    }


def trunk_names(model: Mapping[str, Any]) -> dict[str, str]:
    """Our name -> open_clip's, without the ``text.`` before the text tower's."""
    names = {"logit_scale": "logit_scale", "logit_bias": "logit_bias"}
    names |= _weights_and_biases(TRUNK, "image_encoder.", "visual.trunk.")
    names["image_encoder.positional_embedding"] = "visual.trunk.pos_embed"
    names["image_encoder.pool.probe"] = "visual.trunk.attn_pool.latent"
    for i in range(model["image_encoder"]["layers"]):
        names |= _weights_and_biases(TRUNK_BLOCK, f"image_encoder.blocks.{i}.", f"visual.trunk.blocks.{i}.")
    names["text_encoder.token_embedding.weight"] = "token_embedding.weight"
    names["text_encoder.positional_embedding"] = "positional_embedding"
    names |= _weights_and_biases({"ln_final": "ln_final", "projection": "text_projection"}, "text_encoder.", "")
    return names | block_names("text_encoder.blocks", "transformer.resblocks", model["text_encoder"]["layers"])


def model_names(model: Mapping[str, Any]) -> dict[str, str]:
    """Our name -> transformers', with projections split into q, k and v. Those of the probe stay fused, as ``pool.in``."""
    names = {"logit_scale": "logit_scale", "logit_bias": "logit_bias"}
    names |= _weights_and_biases(HEAD, "image_encoder.", "vision_model.")
    names["image_encoder.positional_embedding"] = "vision_model.embeddings.position_embedding.weight"
    names["image_encoder.pool.probe"] = "vision_model.head.probe"
    names["text_encoder.token_embedding.weight"] = "text_model.embeddings.token_embedding.weight"
    names["text_encoder.positional_embedding"] = "text_model.embeddings.position_embedding.weight"
    names |= _weights_and_biases({"ln_final": "final_layer_norm", "projection": "head"}, "text_encoder.", "text_model.")
    for tower, their_tower in (("image_encoder", "vision_model"), ("text_encoder", "text_model")):
        for i in range(model[tower]["layers"]):
            names |= _weights_and_biases(LAYER, f"{tower}.blocks.{i}.", f"{their_tower}.encoder.layers.{i}.")
    for kind in ("weight", "bias"):  # one matrix: query above key and value
        names[f"image_encoder.pool.in.{kind}"] = f"vision_model.head.attention.in_proj_{kind}"
    return names


def _shaped(ours: dict[str, Tensor], model: Mapping[str, Any]) -> dict[str, Tensor]:
    """Flatten kernels and drop axes of length one, as our towers have them."""
    ours["image_encoder.patch_embedding.weight"] = ours["image_encoder.patch_embedding.weight"].flatten(1)
    for key in ("image_encoder.positional_embedding", "image_encoder.pool.probe"):
        ours[key] = ours[key].flatten(0, -2) if ours[key].ndim > 2 else ours[key]
    ours["image_encoder.pool.probe"] = ours["image_encoder.pool.probe"].flatten()
    for key in ("logit_scale", "logit_bias"):
        ours[key] = ours[key].reshape(())
    return ours | statistics(model)


def from_trunk(model: Mapping[str, Any], theirs: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """open_clip's state dict under our names. Raises ValueError listing missing and extra keys."""
    return _shaped(renamed(trunk_names(model), theirs, source, lambda key: False), model)


def from_siglip_model(model: Mapping[str, Any], theirs: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """``SiglipModel``'s state dict under our names. Raises ValueError listing missing and extra keys."""
    known = {key: value for key, value in theirs.items() if not key.endswith("position_ids")}
    ours = join_qkv(renamed(model_names(model), known, source, lambda key: False))
    for kind in ("weight", "bias"):
        query, key, value = ours.pop(f"image_encoder.pool.in.{kind}").chunk(3)
        ours[f"image_encoder.pool.query.{kind}"] = query
        ours[f"image_encoder.pool.key_value.{kind}"] = torch.cat([key, value])
    return _shaped(ours, model)
