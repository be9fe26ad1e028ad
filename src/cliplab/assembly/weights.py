"""The model of a file takes the place of the configured one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.siglip import VISION
from cliplab.checkpoints.weights import PLAIN_TRANSFORM, RESNET, VIT, Weights, load_exactly, resized_transform
from cliplab.models.positions import resize_positions
from cliplab.settings.check_targets import check
from cliplab.settings.config import ConfigError, resolved, typed_keys
from cliplab.settings.model_source import ModelSource

# Settings that the weights do not decide; positions are interpolated for another image size
FREE = ("max_logit_scale", "image_encoder.patch_dropout", "image_encoder.image_size")
RESNET_STRIDE = 32  # pixels for one position of the attention pool


def _chosen_model(weights: Weights, tower: str | None, cfg: Any, overrides: Sequence[str], source: ModelSource) -> Any:
    """The file's model config (of one tower and the joint space, with ``tower``, the rest as configured) with what was typed
    under ``model`` and does not contradict it.

    Raises ConfigError listing each typed value that the file has otherwise.
    """
    shared = ("image_mean", "image_std") if tower == "image_encoder" else ()
    taken = {k: v for k, v in weights.model.items() if tower is None or k in (tower, "embed_dim", *shared)}
    chosen, wrong = OmegaConf.create(taken), []
    for key in typed_keys(overrides):
        if key.startswith("model/") and tower in (None, key.removeprefix("model/")):
            brought = f"its own {tower}" if tower else "its own towers"
            raise ConfigError(f"{key}: {source.key}={weights.source} brings {brought}; leave this out")
        below = key.removeprefix("model.")
        if below == key or (tower and below.split(".")[0] not in taken):
            continue
        value, there = OmegaConf.select(cfg, key), OmegaConf.select(chosen, below)
        if there is None or below in FREE or below in weights.assumed:
            OmegaConf.update(chosen, below, value)
        elif value != there:
            wrong.append(f"{key} is {there} in the file, not {value}")
    if wrong:
        raise ConfigError(f"{source.key}: {weights.source} does not fit what was typed; {'; '.join(wrong)}")
    if tower is None:
        return chosen
    configured: Any = OmegaConf.to_container(cfg.model, resolve=False)
    return OmegaConf.create({**configured, **chosen})


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
    if key not in state:
        return state  # the text tower's weights alone
    side = image_encoder["image_size"] // image_encoder.get("patch_size", RESNET_STRIDE)
    return {**state, key: resize_positions(state[key], side**2 + extra_tokens, extra_tokens)}


def read_source(source: ModelSource) -> Weights:
    """Read the weights that were named. Raises ConfigError that begins with the key that named them."""
    try:
        weights = read_pretrained(source.spec)
    except ValueError as error:
        raise ConfigError(f"{source.key}: {error}") from error
    check_classes(weights)
    return weights


def check_classes(weights: Weights) -> None:
    """Raises ConfigError when a class that the weights' config names is not there, or takes other arguments now."""
    named = {"model": weights.model, "tokenizer": weights.tokenizer}
    try:
        check({**named, "transform": {**weights.transform, "_partial_": True}}, {**named, "transform": None})
    except ConfigError as error:
        raise ConfigError(
            f"{weights.source}: its config does not fit this cliplab: {error}; load it with the version that wrote it (the "
            "commit stands in its run's manifest.json), or put the class back where it was"
        ) from error


def with_weights(cfg: Any, overrides: Sequence[str], source: ModelSource) -> tuple[dict[str, Any], Weights]:
    """The resolved config with the file's model, tokenizer and image size, and the file's weights; or those of one tower.

    A run folder that holds a config already (a resumed run, a further rank) has settled this and keeps it.
    """
    choice = cfg.get("pretrained_tower")
    tower = f"{choice}_encoder" if choice else None
    weights = read_source(source)
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    if not (Path(str(cfg.paths.run)) / "config.yaml").is_file():
        cfg.model = _chosen_model(weights, tower, cfg, overrides, source)
        if tower != "image_encoder":
            cfg.tokenizer = weights.tokenizer
        if weights.transform != PLAIN_TRANSFORM and tower != "text_encoder":
            stated = weights.model["image_encoder"].get("image_size")
            settled = OmegaConf.select(cfg, "model.image_encoder.image_size")
            weights = replace(weights, transform=resized_transform(weights.transform, stated, settled))
            cfg.data.eval_transform = weights.sized_transform("${model.image_encoder.image_size}")
    config = resolved(cfg)
    state = {k: v for k, v in weights.state.items() if tower is None or k.startswith(f"{tower}.")}
    state = resized(state, config["model"]["image_encoder"])
    weights = replace(weights, model=config["model"], tokenizer=config["tokenizer"], state=state, tower=tower)
    check({"model": config["model"], "tokenizer": config["tokenizer"]}, {"model": None, "tokenizer": None})
    return config, weights


def load_weights(model: Any, weights: Weights) -> None:
    """Every tensor of the file into the model, or into the one tower. Raises ValueError listing what does not fit."""
    kept = {k: v for k, v in model.state_dict().items() if weights.tower and not k.startswith(f"{weights.tower}.")}
    load_exactly(model, {**kept, **weights.state}, weights.source)
