"""SigLIP's weights: open_clip's around a timm tower, and transformers' SiglipModel."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliplab.checkpoints.huggingface import ACTIVATIONS, library_config, tower_sizes
from cliplab.checkpoints.io import read_folder_state
from cliplab.checkpoints.open_clip_fields import (
    EPS_OF_TORCH,
    NO_EFFECT,
    TIMM_DECIDES,
    TRAINING,
    activation_and_eps,
    refuse_custom,
)
from cliplab.checkpoints.preprocessing import read_preprocess_cfg, read_processor
from cliplab.checkpoints.siglip_names import from_siglip_model, from_trunk
from cliplab.checkpoints.stated import Stated
from cliplab.checkpoints.tokenizer_files import SIGLIP_TOKENIZER, siglip_folder_tokenizer
from cliplab.checkpoints.weights import Weights, check_sizes, clip_config, mlp_ratio
from cliplab.models.layers import ACTIVATIONS as OUR_ACTIVATIONS
from cliplab.models.siglip import EPS

VISION = "cliplab.models.siglip.SiglipVisionTransformer"
LANGUAGE = "cliplab.models.siglip.SiglipTextTransformer"


def looks_siglip(cfg: Mapping[str, Any]) -> bool:
    return "siglip" in str(cfg["vision_cfg"].get("timm_model_name")) and cfg["vision_cfg"].get("timm_pool") == "map"


def _timm_tower(name: str, stated: Stated) -> dict[str, Any]:
    """Heads, activation and epsilon of a timm SigLIP tower, which its state dict does not show.

    Raises ValueError naming the field for a tower of another make.
    """
    import timm

    try:
        with torch.device("meta"):
            tower: Any = timm.create_model(name, num_classes=0, global_pool="map")
        block, probe = tower.blocks[0], tower.attn_pool
        heads, act, eps = block.attn.num_heads, block.mlp.act, tower.norm.eps
        pre_norm = isinstance(tower.norm_pre, torch.nn.LayerNorm)
        plain = not pre_norm and tower.num_prefix_tokens == 0 and probe.num_heads == heads and probe.latent_len == 1
    except (RuntimeError, TypeError, AttributeError, IndexError, AssertionError) as error:
        raise stated.refusal("timm_model_name", name, f"timm cannot build a SigLIP tower from it ({error})") from error
    x = torch.linspace(-3, 3, 25)  # activations are recognised by their values, since class names differ
    known = [ours for ours, kind in OUR_ACTIVATIONS.items() if torch.allclose(act(x), kind()(x), rtol=0, atol=1e-6)]
    if not plain or not known:
        raise stated.refusal("timm_model_name", name, "this is not SigLIP's image tower")
    activation = known[0]
    return {"heads": heads, "activation": activation, **({} if eps == EPS else {"norm_eps": eps})}


def _shown_image(state: Mapping[str, Tensor], size: int) -> dict[str, Any]:
    kernel = state["visual.trunk.patch_embed.proj.weight"]
    width, blocks = kernel.shape[0], r"visual\.trunk\.blocks\.(\d+)\."
    return {
        "_target_": VISION,
        "image_size": size,
        "patch_size": kernel.shape[-1],
        "width": width,
        "layers": len({m[1] for key in state if (m := re.match(blocks, key))}),
        "output_dim": width,
        "mlp_ratio": mlp_ratio(state["visual.trunk.blocks.0.mlp.fc1.weight"].shape[0], width),
    }


def read_trunk(
    cfg: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    folder: str | None,
    *,
    named: bool = True,
) -> Weights:
    """Read open_clip's SigLIP by its config. The tokenizer is that in ``folder``, or the one on the hub that the config
    names.

    Where no preprocessing is stated it is SigLIP's with ``named``, else open_clip's default. Raises ValueError naming the
    field that is not supported, or listing keys that do not fit.
    """
    top = Stated(cfg, source, "model_cfg")
    vision, text = top.part("vision_cfg"), top.part("text_cfg")
    dim, quick = top.size("embed_dim"), top.switch("quick_gelu", False)
    bias = top.number("init_logit_bias", 0.0)
    size, name = vision.side("image_size", 224), vision.take("timm_model_name")
    projection = vision.take("timm_proj", "linear")
    if projection != "none":  # open_clip's default is linear, and an empty one is a layer within timm's tower
        raise vision.refusal("timm_proj", projection, "a projection after the image tower cannot be followed; none can")
    vision.pass_over((*TIMM_DECIDES, *TRAINING, "timm_pool"))  # the name decides these; looks_siglip checked the pool
    vision.finish()
    language, tokenizer = siglip_text(text, dim, quick, source, folder)
    top.pass_over(NO_EFFECT)
    top.finish()
    if "text_projection.weight" not in state and language.pop("bare"):
        state = {**_identity(dim), **state}
    language.pop("bare", None)
    try:
        image = {**_shown_image(state, size), **_timm_tower(name, vision)}
        kernel = state["transformer.resblocks.0.mlp.c_fc.weight"]
    except KeyError as error:
        raise ValueError(f"{source}: the keys are not those of this architecture; missing: {error.args[0]}") from error
    language["mlp_ratio"] = mlp_ratio(*kernel.shape)
    pictures = read_preprocess_cfg(preprocess, source, size, squash=named and "resize_mode" not in preprocess)
    model = clip_config(
        image_encoder=image,
        text_encoder={"_target_": LANGUAGE, **language, "output_dim": dim},
        embed_dim=dim,
        mean=pictures.mean,
        std=pictures.std,
        init_logit_bias=bias,
    )
    check_sizes(model, source)
    return Weights(model, tokenizer, from_trunk(model, state, source), source, transform=pictures.transform)


def siglip_text(
    text: Stated, dim: int, quick_gelu: bool, source: str, folder: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configs of text tower and tokenizer, from a text_cfg. ``bare`` in the first says that it has no projection."""
    language: dict[str, Any] = {
        key: text.size(key) for key in ("vocab_size", "context_length", "width", "layers", "heads")
    }
    text.number("mlp_ratio", 4.0)  # the config rounds it, so it is taken from the weights
    activation, eps = activation_and_eps(text, quick_gelu, EPS_OF_TORCH)
    language |= {"activation": activation, **({} if eps == EPS else {"norm_eps": eps})}
    if not text.switch("no_causal_mask", False):
        raise text.refusal("no_causal_mask", False, "SigLIP's text tower looks both ways")
    pool = text.take("pool_type", "argmax")
    if pool != "last":
        raise text.refusal("pool_type", pool, "SigLIP's text tower is pooled at the last position")
    projection = text.take("proj_type", "linear")
    if projection not in ("linear", "none"):
        raise text.refusal("proj_type", projection, "linear and none can be followed")
    if projection == "linear" and not text.switch("proj_bias", False):
        raise text.refusal("proj_bias", False, "SigLIP's projection has a bias")
    tokens = text.part("tokenizer_kwargs")
    cleaners = {name: name for name in ("whitespace", "lower", "canonicalize")}
    clean = tokens.choice("clean", cleaners, "whitespace", "open_clip's tokenizers")
    tokens.only("strip_sep_token", (False,), "separators cannot be stripped")
    tokens.finish()
    text.only("tokenizer_mode", ("",), "only the tokenizer's own mode can be followed")
    hub = text.take("hf_tokenizer_name")
    if folder is None and not hub:
        raise text.refusal("hf_tokenizer_name", hub, "name the tokenizer, or put its files beside the weights")
    text.pass_over(("proj_bias", "pad_id", "eos_id", "final_ln_after_pool"))  # these concern other pools, or nothing
    refuse_custom(text)
    text.finish()
    tokenizer = {"_target_": SIGLIP_TOKENIZER, "source": folder or hub, "context_length": language["context_length"]}
    return {**language, "bare": projection == "none"}, {**tokenizer, "clean": clean}


def _identity(width: int) -> dict[str, Tensor]:
    """A projection that changes nothing, for models without one."""
    return {"text_projection.weight": torch.eye(width), "text_projection.bias": torch.zeros(width)}


def siglip_config(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The towers' configs of a SiglipModel's config.json. Raises ValueError naming file and field."""
    top, vision, text = library_config("siglip", file)
    image: dict[str, Any] = {"_target_": VISION, "image_size": vision.side("image_size")}
    image |= {"patch_size": vision.side("patch_size")}
    image |= tower_sizes(vision, ACTIVATIONS, "SigLIP's towers", EPS)
    vision.only("num_channels", (3,), "towers take three channels")
    vision.only("vision_use_head", (True,), "without the head there is no vector for a picture")
    language = {"_target_": LANGUAGE, "vocab_size": text.size("vocab_size")}
    language |= {
        "context_length": text.size("max_position_embeddings"),
        **tower_sizes(text, ACTIVATIONS, "SigLIP's towers", EPS),
    }
    dim = text.size("projection_size", image["width"])
    if dim != image["width"]:
        raise text.refusal("projection_size", dim, f"the image tower gives vectors of hidden_size {image['width']}")
    for part in (top, vision, text):
        part.pass_over(("bos_token_id", "pad_token_id", "eos_token_id"))  # the tokenizer decides these
        part.finish()
    return {**image, "output_dim": dim}, {**language, "output_dim": dim}


def read_siglip_folder(folder: Path) -> Weights:
    """Read a folder that ``SiglipModel.save_pretrained`` wrote, with its tokenizer's files.

    Raises ValueError naming file and field, or listing keys that do not fit.
    """
    source, file = str(folder), folder / "config.json"
    image, language = siglip_config(file)
    pictures = read_processor(folder, "SiglipImageProcessor", image["image_size"])
    model = clip_config(
        image_encoder=image,
        text_encoder=language,
        embed_dim=image["output_dim"],
        mean=pictures.mean,
        std=pictures.std,
        init_logit_bias=0.0,
    )
    check_sizes(model, str(file))
    state = from_siglip_model(model, read_folder_state(folder, "model"), source)
    tokenizer = siglip_folder_tokenizer(folder, language["vocab_size"], language["context_length"])
    length = tokenizer["context_length"]
    if length < language["context_length"]:  # texts are filled up and pooled at ``length``: no later position is read
        model["text_encoder"]["context_length"] = length
        positions = "text_encoder.positional_embedding"
        state[positions] = state[positions][:length].clone()
    return Weights(model, tokenizer, state, source, transform=pictures.transform)
