"""open_clip's model configs, state dicts and folders, for its native CLIP towers."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cliplab.checkpoints.io import read_folder_state, write_safetensors
from cliplab.checkpoints.open_clip_fields import EPS_OF_TORCH, NO_EFFECT, TRAINING, activation_and_eps, refuse_custom
from cliplab.checkpoints.open_clip_names import named_config
from cliplab.checkpoints.openai import HEAD_WIDTH, from_openai, looks_native, shown_config, to_openai
from cliplab.checkpoints.preprocessing import read_preprocess_cfg
from cliplab.checkpoints.siglip import looks_siglip, read_trunk
from cliplab.checkpoints.spec import OPEN_CLIP_CONFIG
from cliplab.checkpoints.stated import Stated, read_json
from cliplab.checkpoints.stating import preprocess_cfg
from cliplab.checkpoints.tokenizer_files import has_tokenizer
from cliplab.checkpoints.weights import RESNET, TEXT, VIT, Weights, check_sizes, clip_config, tokenizer_config
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.models.encoders import CLIP_MEAN, CLIP_STD
from cliplab.models.hub import hub_or_cache, hub_silence, patience_with_sockets, silence_of

STEM = "open_clip_model"


def _image_config(vision: Stated, quick_gelu: bool) -> dict[str, Any]:
    width, head_width = vision.size("width", 768), vision.size("head_width", HEAD_WIDTH)
    image: dict[str, Any] = {"image_size": vision.side("image_size", 224), "width": width}
    layers = vision.take("layers", 12)
    if isinstance(layers, list):
        image = {"_target_": RESNET, **image, "layers": layers, "heads": width * 32 // head_width}
        # open_clip reads none of these for a ResNet
        vision.pass_over(("patch_size", "mlp_ratio", "act_kwargs", "norm_kwargs", "no_ln_pre", "final_ln_after_pool"))
        vision.pass_over(("pool_type", "pos_embed_type"))
    else:
        vision.left["layers"] = layers
        image = {"_target_": VIT, **image, "layers": vision.size("layers"), "heads": width // head_width}
        image |= {"patch_size": vision.side("patch_size", 16), "mlp_ratio": vision.number("mlp_ratio", 4.0)}
        activation, eps = activation_and_eps(vision, quick_gelu, EPS_OF_TORCH)
        image |= {"activation": activation, "patch_dropout": 0.0}
        image |= {} if eps == EPS_OF_TORCH else {"norm_eps": eps}
        vision.only("no_ln_pre", (False,), "our ViT has the norm before its blocks")
        vision.only("pool_type", ("tok",), "our ViT is pooled at its class token")
        vision.only("pos_embed_type", ("learnable", "sin_cos_2d"), "positions are read from the weights")
    # The norm acts on each position alone, so the class token is the same whether it is pooled before or after.
    vision.pass_over(("final_ln_after_pool", "attn_pooler_queries", "attn_pooler_heads", *TRAINING))
    vision.pass_over(("timm_pool", "timm_proj", "timm_proj_bias"))  # open_clip reads them with a timm_model_name only
    vision.only("timm_model_name", ("",), "of timm's towers only SigLIP's can be read")
    refuse_custom(vision)
    vision.finish()
    return image


def _text_config(text: Stated, quick_gelu: bool) -> tuple[dict[str, Any], str]:
    """The text tower's config, and the name of the way its texts are cleaned."""
    activation, eps = activation_and_eps(text, quick_gelu, EPS_OF_TORCH)
    language = {
        "_target_": TEXT,
        "vocab_size": text.size("vocab_size", 49_408),
        "context_length": text.size("context_length", 77),
        "width": text.size("width", 512),
        "layers": text.size("layers", 12),
        "heads": text.size("heads", 8),
        "mlp_ratio": text.number("mlp_ratio", 4.0),
        "activation": activation,
        **({} if eps == EPS_OF_TORCH else {"norm_eps": eps}),
    }
    text.only("no_causal_mask", (False,), "CLIP's text tower is causal")
    pool, end = text.take("pool_type", "argmax"), text.take("eos_id", 2)
    if pool not in ("argmax", "eos"):
        raise text.refusal("pool_type", pool, "CLIP's text tower is pooled at the end of text: argmax or eos")
    if pool == "eos" and end != CLIPTokenizer.end_token:
        raise text.refusal("eos_id", end, f"texts end with {CLIPTokenizer.end_token}")
    text.only("proj_bias", (False,), "CLIP's projection has no bias")
    text.only("proj_type", ("linear",), "CLIP's text tower has a projection")
    tokens = text.part("tokenizer_kwargs")
    cleaners = {name: name for name in ("lower", "canonicalize")}
    clean = tokens.choice("clean", cleaners, "lower", "lower-case tokenizers")
    tokens.only("reduction_mask", ("",), "texts are cut at their end")
    tokens.finish()
    text.only("tokenizer_mode", ("",), "only the tokenizer's own mode can be followed")
    text.only("hf_tokenizer_name", ("",), "CLIP's own text tower goes with CLIP's own tokenizer")
    text.pass_over(("pad_id", "final_ln_after_pool", "hf_proj_type", "hf_pooler_type", "hf_model_pretrained"))
    refuse_custom(text)
    text.finish()
    return language, clean


def native_config(
    cfg: Mapping[str, Any], preprocess: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Our model config of an open_clip model config, the evaluation transform's, and how texts are cleaned.

    Raises ValueError naming the setting that our towers lack.
    """
    top = Stated(cfg, source, "model_cfg")
    dim, quick = top.size("embed_dim"), top.switch("quick_gelu", False)
    image = _image_config(top.part("vision_cfg"), quick)
    language, clean = _text_config(top.part("text_cfg"), quick)
    bias = (
        None if top.left.get("init_logit_bias") is None else top.number("init_logit_bias", 0.0)
    )  # files hold -10, too
    top.pass_over(NO_EFFECT)
    top.finish()
    pictures = read_preprocess_cfg(preprocess, source, image["image_size"])
    model = clip_config(
        image_encoder={**image, "output_dim": dim},
        text_encoder={**language, "output_dim": dim},
        embed_dim=dim,
        mean=pictures.mean,
        std=pictures.std,
        init_logit_bias=bias,
    )
    check_sizes(model, source)
    return model, pictures.transform, clean


def _check_sizes(stated: Mapping[str, Any], state: Mapping[str, Tensor], source: str) -> None:
    """Raises ValueError listing each size in which the stated config and the tensors differ."""
    if not looks_native(state):
        return  # from_openai lists the keys
    shown, wrong = shown_config(state, activation="", image_head_width=1), []
    for tower in ("image_encoder", "text_encoder"):
        for key, value in shown[tower].items():
            by_name = stated[tower].get(key)
            if key == "mlp_ratio" and by_name is not None:  # named configs round it, so compare the inner widths
                value, by_name = (int(shown[tower]["width"] * ratio) for ratio in (value, by_name))
            if key not in ("heads", "activation", "patch_dropout") and by_name != value:
                wrong.append(f"{tower}.{key} is {by_name} by its name and {value} in the file")
    if wrong:
        raise ValueError(f"{source}: sizes do not fit; {'; '.join(wrong)}")


def native_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefix ``text.``, which open_clip's custom-text models give to the text tower."""
    scalars = ("logit_scale", "logit_bias")
    return {k.removeprefix("text."): v.reshape(()) if k in scalars else v for k, v in state.items()}


def read_open_clip(
    cfg: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    folder: str | None = None,
    *,
    named: bool = True,
) -> Weights:
    """Weights for a given open_clip config. ``folder`` holds the tokenizer's files, if there are any. ``named`` says that
    the config belongs to a model name, so that no preprocessing is stated beside it.

    Raises ValueError listing sizes or keys that do not fit, or naming the field that cannot be followed.
    """
    if looks_siglip(cfg):
        return read_trunk(cfg, preprocess, native_state(state), source, folder, named=named)
    model, transform, clean = native_config(cfg, preprocess, source)
    native = native_state(state)
    _check_sizes(model, native, source)
    text = model["text_encoder"]
    tokenizer = tokenizer_config(text["vocab_size"], text["context_length"], source)
    if clean != "lower":
        tokenizer["clean"] = clean
    return Weights(model, tokenizer, from_openai(model, native, source), source, transform=transform)


def read_folder(folder: Path) -> Weights:
    """Read a folder with open_clip_config.json and weights, as open_clip pushes it to the hub."""
    file = folder / OPEN_CLIP_CONFIG
    top = Stated(read_json(file), file)
    cfg, preprocess = top.take("model_cfg", {}), top.take("preprocess_cfg", {})
    if not isinstance(cfg, dict) or not {"vision_cfg", "text_cfg", "embed_dim"} <= set(cfg):
        raise ValueError(f"{file}: it has no whole model_cfg: embed_dim, vision_cfg and text_cfg")
    if not isinstance(preprocess, dict):
        raise top.refusal("preprocess_cfg", preprocess, "it must be an object")
    top.finish()
    stems = ("open_clip_model", "open_clip_pytorch_model", "model")
    stem = next((s for s in stems if any((folder / f"{s}{x}").is_file() for x in (".safetensors", ".bin"))), stems[0])
    state = read_folder_state(folder, stem)
    tokenizer = str(folder) if has_tokenizer(folder) else None
    weights = read_open_clip(cfg, preprocess, state, str(file), tokenizer, named=False)
    return replace(weights, source=str(folder))


def pretrained_tag(name: str, tag: str) -> tuple[Path, dict[str, Any]]:
    """Download the weights of a tag. Returns the file and the tag's facts (mean, std, activation).

    Raises ValueError for an unknown tag, or for one trained with another activation than the name has.
    """
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model

    facts = get_pretrained_cfg(name, tag)
    if not facts:
        known = ", ".join(list_pretrained_tags_by_model(name)) or "none"
        raise ValueError(f"{tag!r} is neither a file nor a tag of open_clip's {name}; its tags are {known}")
    if facts.get("quick_gelu", False) and not named_config(name).get("quick_gelu", False):
        raise ValueError(
            f"open_clip:{name}:{tag}: these weights were trained with QuickGELU but {name} has GELU; "
            f"use open_clip:{name}-quickgelu:{tag}"
        )
    address = _address(facts)
    silence = silence_of(address) if address else None
    try:
        if silence:
            raise ConnectionError(silence)
        with hub_or_cache(facts.get("hf_hub", "").strip("/") or "."), patience_with_sockets():
            return Path(download_pretrained(facts)), facts
    except Exception as error:  # the network, the hub or a checksum failed
        if address:
            _kept(address).unlink(missing_ok=True)  # half a file would be taken for a whole one the next time
        reason = (facts.get("hf_hub") and hub_silence()) or (str(error).strip().splitlines() or [type(error).__name__])[
            0
        ]
        way = f"download {address} elsewhere" if address else "go online"
        raise ValueError(
            f"open_clip:{name}:{tag}: the weights of this tag cannot be fetched ({reason.rstrip('.')}); {way}, and name the "
            f"file: pretrained=open_clip:{name}:<file>"
        ) from error


def _address(facts: Mapping[str, Any]) -> str | None:
    """The address that the weights of a tag will be fetched from; None when they are on the hub or were fetched before."""
    url = facts.get("url")
    return None if not url or facts.get("hf_hub") or _kept(url).is_file() else str(url)


def _kept(address: str) -> Path:
    """Where open_clip keeps what it fetched from an address."""
    return Path("~/.cache/clip").expanduser() / address.rpartition("/")[2]


def to_model_cfg(model: Mapping[str, Any]) -> dict[str, Any]:
    """Our config of native towers as open_clip's. Raises ValueError naming what it cannot express."""
    image, text = model["image_encoder"], model["text_encoder"]
    if image["_target_"] not in (VIT, RESNET) or text["_target_"] != TEXT:
        names = [t["_target_"].rpartition(".")[2] for t in (image, text)]
        raise ValueError(f"format=open_clip holds CLIP's own towers, not {' and '.join(names)}; use format=safetensors")
    activations = {tower["activation"] for tower in (image, text) if "activation" in tower}
    if len(activations) > 1 and "quick_gelu" in activations:
        raise ValueError("format=open_clip has QuickGELU in both towers or in none; this model has it in one")
    vision = {key: image[key] for key in ("image_size", "layers", "width")}
    if image["_target_"] == VIT:
        vision |= {"patch_size": image["patch_size"], "head_width": image["width"] // image["heads"]}
        vision |= {"mlp_ratio": image.get("mlp_ratio", 4.0)}
    else:
        vision["head_width"] = image["width"] * 32 // image["heads"]
    keys = ("context_length", "vocab_size", "width", "heads", "layers")
    language = {key: text[key] for key in keys} | {"mlp_ratio": text.get("mlp_ratio", 4.0)}
    for tower, cfg in ((image, vision), (text, language)):
        if tower.get("activation") == "gelu_tanh":
            cfg["act_kwargs"] = {"approximate": "tanh"}
        if "norm_eps" in tower:
            cfg["norm_kwargs"] = {"eps": tower["norm_eps"]}
    cfg = {"embed_dim": model["embed_dim"], "vision_cfg": vision, "text_cfg": language}
    cfg["quick_gelu"] = activations == {"quick_gelu"}
    if model.get("init_logit_bias") is not None:
        cfg["init_logit_bias"] = model["init_logit_bias"]
    return cfg


def write_open_clip(
    folder: Path,
    model: Mapping[str, Any],
    state: Mapping[str, Tensor],
    transform: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder that ``open_clip.create_model_and_transforms("local-dir:<folder>")`` reads. ``transform`` prepares
    pictures; None is the paper's. Raises ValueError naming
    what it cannot hold."""
    model_cfg = to_model_cfg(model)
    statistics = {"mean": list(model.get("image_mean", CLIP_MEAN)), "std": list(model.get("image_std", CLIP_STD))}
    pictures = preprocess_cfg(transform, model["image_encoder"]["image_size"])
    config = {"model_cfg": model_cfg, "preprocess_cfg": {**pictures, **statistics}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf8")
    write_safetensors(folder / f"{STEM}.safetensors", to_openai(model, state), {"format": "pt"})
