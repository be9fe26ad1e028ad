"""``pretrained=``: the model of a foreign file takes the place of the configured one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.siglip import VISION
from cliplab.checkpoints.weights import RESNET, VIT, Weights, load_exactly
from cliplab.models.positions import resize_positions
from cliplab.tasks.config import ConfigError, check, resolved

# Settings that the weights do not decide; positions are interpolated for another image size
FREE = ("max_logit_scale", "image_encoder.patch_dropout", "image_encoder.image_size")
RESNET_STRIDE = 32  # pixels for one position of the attention pool


def typed_keys(overrides: Sequence[str]) -> list[str]:
    """The keys of what was typed, without values and signs."""
    return [override.lstrip("+~").split("=")[0] for override in overrides]


def _settle(model: dict[str, Any], weights: Weights, cfg: Any, overrides: Sequence[str]) -> Any:
    """The file's model config with what was typed under ``model`` and does not contradict it.

    Raises ConfigError listing each typed value that the file has otherwise.
    """
    settled, wrong = OmegaConf.create(model), []
    for key in typed_keys(overrides):
        if key.startswith("model/"):
            raise ConfigError(f"{key}: pretrained={weights.source} brings its own towers; leave this out")
        if not key.startswith("model."):
            continue
        below = key.removeprefix("model.")
        value, there = OmegaConf.select(cfg, key), OmegaConf.select(settled, below)
        if there is None or below in FREE or below in weights.assumed:
            OmegaConf.update(settled, below, value)
        elif value != there:
            wrong.append(f"{key} is {there} in the file, not {value}")
    if wrong:
        raise ConfigError(f"pretrained: {weights.source} does not fit what was typed; {'; '.join(wrong)}")
    return settled


def resized(state: dict[str, Tensor], image_encoder: dict[str, Any]) -> dict[str, Tensor]:
    """The state with the image tower's position embeddings interpolated to its image size, where it is another."""
    places = {
        VIT: ("image_encoder.positional_embedding", 1),
        RESNET: ("image_encoder.pool.positional_embedding", 1),
        VISION: ("image_encoder.positional_embedding", 0),
    }
    if image_encoder["_target_"] not in places:
        return state
    key, extra_tokens = places[image_encoder["_target_"]]
    side = image_encoder["image_size"] // image_encoder.get("patch_size", RESNET_STRIDE)
    return {**state, key: resize_positions(state[key], side**2 + extra_tokens, extra_tokens)}


def with_weights(cfg: Any, overrides: Sequence[str]) -> tuple[dict[str, Any], Weights]:
    """The resolved config with the file's model, tokenizer and image size, and the file's weights.

    A run folder that holds a config already (a resumed run, a further rank) has settled this and keeps it.
    """
    weights = read_pretrained(str(cfg.pretrained))
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    if not (Path(str(cfg.paths.run)) / "config.yaml").is_file():
        cfg.model = _settle(weights.model, weights, cfg, overrides)
        cfg.tokenizer = weights.tokenizer
        if weights.transform != Weights.transform:
            size = "${model.image_encoder.image_size}"
            cfg.data.eval_transform = {"_target_": weights.transform, "image_size": size}
    config = resolved(cfg)
    weights = replace(weights, model=config["model"], state=resized(weights.state, config["model"]["image_encoder"]))
    check({"model": config["model"], "tokenizer": config["tokenizer"]}, {"model": None, "tokenizer": None})
    return config, weights


def load_weights(model: Any, weights: Weights) -> None:
    """Every tensor of the file into the model. Raises ValueError listing what does not fit."""
    load_exactly(model, weights.state, weights.source)
