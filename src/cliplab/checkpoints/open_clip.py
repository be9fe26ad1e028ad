"""open_clip's model configs, state dicts and folders, for its native CLIP towers."""

import functools
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cliplab.checkpoints.io import read_folder_state, write_safetensors
from cliplab.checkpoints.openai import HEAD_WIDTH, from_openai, looks_native, shown_config, to_openai
from cliplab.checkpoints.siglip import looks_siglip, read_trunk
from cliplab.checkpoints.weights import RESNET, TEXT, VIT, Weights, clip_config, tokenizer_config
from cliplab.models.clip import CLIP_MEAN, CLIP_STD

CONFIG = "open_clip_config.json"
STEM = "open_clip_model"
OUTER = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_bias", "init_logit_scale"}
VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "patch_dropout"}
LANGUAGE = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
HARMLESS = {"output_tokens": False, "timm_model_pretrained": False}


@functools.cache
def _package() -> Path:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ImportError("the names of open_clip's models come from open_clip_torch; run: pip install open_clip_torch")
    return Path(spec.origin).parent


def named_config(name: str) -> dict[str, Any]:
    """The model config of a name in the installed open_clip. Raises ValueError listing names that look like it."""
    import difflib

    file = _package() / "model_configs" / f"{name.replace('/', '-')}.json"
    if not file.is_file():
        known = [f.stem for f in file.parent.glob("*.json")]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
        raise ValueError(f"open_clip has no model {name!r}; close to it are {', '.join(close) or 'none'}")
    return json.loads(file.read_text(encoding="utf8"))


def _refuse_unknown(part: Mapping[str, Any], known: set[str], where: str, source: str) -> None:
    unknown = [k for k, v in part.items() if k not in known and v is not None and HARMLESS.get(k, ...) != v]
    if unknown:
        raise ValueError(f"{source}: {where}.{unknown[0]} = {part[unknown[0]]!r} is no part of CLIP's own towers")


def native_config(cfg: Mapping[str, Any], preprocess: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Our model config of an open_clip model config. Raises ValueError naming the setting that our towers lack."""
    vision, text = cfg["vision_cfg"], cfg["text_cfg"]
    _refuse_unknown(cfg, OUTER, "model_cfg", source)
    _refuse_unknown(vision, VISION, "vision_cfg", source)
    _refuse_unknown(text, LANGUAGE, "text_cfg", source)
    activation = "quick_gelu" if cfg.get("quick_gelu") else "gelu"
    width, head_width = vision.get("width", 768), vision.get("head_width", HEAD_WIDTH)
    image: dict[str, Any] = {"image_size": vision.get("image_size", 224), "width": width}
    layers = vision.get("layers", 12)
    if isinstance(layers, list):
        image = {"_target_": RESNET, **image, "layers": layers, "heads": width * 32 // head_width}
    else:
        image = {"_target_": VIT, **image, "layers": layers, "heads": width // head_width}
        image |= {"patch_size": vision.get("patch_size", 16), "mlp_ratio": vision.get("mlp_ratio", 4.0)}
        image |= {"activation": activation, "patch_dropout": 0.0}
    language = {
        "_target_": TEXT,
        "vocab_size": text.get("vocab_size", 49_408),
        "context_length": text.get("context_length", 77),
        "width": text.get("width", 512),
        "layers": text.get("layers", 12),
        "heads": text.get("heads", 8),
        "mlp_ratio": text.get("mlp_ratio", 4.0),
        "activation": activation,
    }
    return clip_config(
        image_encoder={**image, "output_dim": cfg["embed_dim"]},
        text_encoder={**language, "output_dim": cfg["embed_dim"]},
        embed_dim=cfg["embed_dim"],
        mean=preprocess.get("mean", CLIP_MEAN),
        std=preprocess.get("std", CLIP_STD),
        init_logit_bias=cfg.get("init_logit_bias"),
    )


def _check_sizes(stated: Mapping[str, Any], state: Mapping[str, Tensor], source: str) -> None:
    """Raises ValueError listing each size in which the stated config and the tensors differ."""
    if not looks_native(state):
        return  # from_openai lists the keys
    shown, wrong = shown_config(state, activation="", image_head_width=1), []
    for tower in ("image_encoder", "text_encoder"):
        for key, value in shown[tower].items():
            there = stated[tower].get(key)
            if key == "mlp_ratio" and there is not None:  # names round it: the inner width decides
                value, there = (int(shown[tower]["width"] * ratio) for ratio in (value, there))
            if key not in ("heads", "activation", "patch_dropout") and there != value:
                wrong.append(f"{tower}.{key} is {there} by its name and {value} in the file")
    if wrong:
        raise ValueError(f"{source}: sizes do not fit; {'; '.join(wrong)}")


def native_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the ``text.`` that open_clip's custom-text models put before the text tower's."""
    scalars = ("logit_scale", "logit_bias")
    return {k.removeprefix("text."): v.reshape(()) if k in scalars else v for k, v in state.items()}


def read_open_clip(
    cfg: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    folder: str | None = None,
) -> Weights:
    """Weights under a stated open_clip config. ``folder`` holds the tokenizer's files, where it has any of its own.

    Raises ValueError listing sizes or keys that do not fit, and for a preprocessing that no evaluation transform does.
    """
    if looks_siglip(cfg):
        return read_trunk(cfg, preprocess, native_state(state), source, folder)
    if (
        preprocess.get("interpolation", "bicubic") != "bicubic"
        or preprocess.get("resize_mode", "shortest") != "shortest"
    ):
        raise ValueError(f"{source}: preprocessing {dict(preprocess)} is not the bicubic centre crop of CLIP's towers")
    model = native_config(cfg, preprocess, source)
    native = native_state(state)
    _check_sizes(model, native, source)
    text = model["text_encoder"]
    tokenizer = tokenizer_config(text["vocab_size"], text["context_length"], source)
    return Weights(model, tokenizer, from_openai(model, native, source), source)


def read_folder(folder: Path) -> Weights:
    """A folder of open_clip_config.json and weights, as open_clip pushes to the hub."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf8"))
    if not {"vision_cfg", "text_cfg", "embed_dim"} <= set(config.get("model_cfg", {})):
        raise ValueError(f"{folder}: {CONFIG} has no whole model_cfg")
    stems = ("open_clip_model", "open_clip_pytorch_model", "model")
    stem = next((s for s in stems if any((folder / f"{s}{x}").is_file() for x in (".safetensors", ".bin"))), stems[0])
    state = read_folder_state(folder, stem)
    own = str(folder) if (folder / "tokenizer.json").is_file() else None
    return read_open_clip(config["model_cfg"], config.get("preprocess_cfg", {}), state, str(folder), own)


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
    return Path(download_pretrained(facts)), facts


def to_model_cfg(model: Mapping[str, Any]) -> dict[str, Any]:
    """Our config of native towers as open_clip's. Raises ValueError naming what it cannot express."""
    image, text = model["image_encoder"], model["text_encoder"]
    if image["_target_"] not in (VIT, RESNET) or text["_target_"] != TEXT:
        names = [t["_target_"].rpartition(".")[2] for t in (image, text)]
        raise ValueError(f"format=open_clip holds CLIP's own towers, not {' and '.join(names)}; use format=safetensors")
    activations = {tower["activation"] for tower in (image, text) if "activation" in tower}
    if len(activations) > 1:
        raise ValueError("format=open_clip has one activation for both towers and this model has two")
    vision = {key: image[key] for key in ("image_size", "layers", "width")}
    if image["_target_"] == VIT:
        vision |= {"patch_size": image["patch_size"], "head_width": image["width"] // image["heads"]}
        vision |= {"mlp_ratio": image.get("mlp_ratio", 4.0)}
    else:
        vision["head_width"] = image["width"] * 32 // image["heads"]
    keys = ("context_length", "vocab_size", "width", "heads", "layers")
    language = {key: text[key] for key in keys} | {"mlp_ratio": text.get("mlp_ratio", 4.0)}
    cfg = {"embed_dim": model["embed_dim"], "vision_cfg": vision, "text_cfg": language}
    cfg["quick_gelu"] = activations == {"quick_gelu"}
    if model.get("init_logit_bias") is not None:
        cfg["init_logit_bias"] = model["init_logit_bias"]
    return cfg


def write_open_clip(folder: Path, model: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """``open_clip.create_model_and_transforms("local-dir:<folder>")`` reads it."""
    preprocess = {
        "size": model["image_encoder"]["image_size"],
        "mean": list(model.get("image_mean", CLIP_MEAN)),
        "std": list(model.get("image_std", CLIP_STD)),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": to_model_cfg(model), "preprocess_cfg": preprocess}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf8")
    write_safetensors(folder / f"{STEM}.safetensors", to_openai(model, state), {"format": "pt"})
