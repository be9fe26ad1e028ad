"""Put the model of a weight file in the place of the configured model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor, nn

from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.siglip import VISION
from cliplab.checkpoints.weights import PLAIN_TRANSFORM, RESNET, VIT, Weights, load_exactly, resized_transform
from cliplab.models.positions import resize_positions
from cliplab.settings.check_targets import check
from cliplab.settings.config import ConfigError, resolved, typed_keys
from cliplab.settings.model_source import ModelSource

# Settings that may differ from the file; positions are interpolated for another image size
FREE = ("max_logit_scale", "image_encoder.patch_dropout", "image_encoder.image_size")
RESNET_STRIDE = 32  # pixels for each position of the attention pool


def _chosen_model(weights: Weights, tower: str | None, cfg: Any, overrides: Sequence[str], source: ModelSource) -> Any:
    """The model config of the file, with the typed settings under ``model`` that do not contradict it. With ``tower``, only
    this tower and the joint space are taken from the file, and the rest is as configured.

    Raises ConfigError that lists the typed values that contradict the file.
    """
    shared = ("image_mean", "image_std") if tower == "image_encoder" else ()
    from_file = {k: v for k, v in weights.model.items() if tower is None or k in (tower, "embed_dim", *shared)}
    chosen, wrong = OmegaConf.create(from_file), []
    for key in typed_keys(overrides):
        if key.startswith("model/") and tower in (None, key.removeprefix("model/")):
            own = f"its own {tower}" if tower else "its own towers"
            raise ConfigError(f"{key}: {source.key}={weights.source} brings {own}; leave this out")
        below = key.removeprefix("model.")
        if below == key or (tower and below.split(".")[0] not in from_file):
            continue
        value, in_file = OmegaConf.select(cfg, key), OmegaConf.select(chosen, below)
        if in_file is None or below in FREE or below in weights.assumed:
            OmegaConf.update(chosen, below, value)
        elif value != in_file:
            wrong.append(f"{key} is {in_file} in the file, not {value}")
    if wrong:
        raise ConfigError(f"{source.key}: {weights.source} does not fit what was typed; {'; '.join(wrong)}")
    if tower is None:
        return chosen
    configured: Any = OmegaConf.to_container(cfg.model, resolve=False)
    return OmegaConf.create({**configured, **chosen})


def resized(state: dict[str, Tensor], image_encoder: dict[str, Any]) -> dict[str, Tensor]:
    """The state, with the position embeddings of the image tower interpolated if its image size has changed."""
    places = {
        VIT: ("image_encoder.positional_embedding", 1),
        RESNET: ("image_encoder.pool.positional_embedding", 1),
        VISION: ("image_encoder.positional_embedding", 0),
    }
    if image_encoder["_target_"] not in places:
        return state
    key, extra_tokens = places[image_encoder["_target_"]]
    if key not in state:
        return state  # the weights are of the text tower only
    side = image_encoder["image_size"] // image_encoder.get("patch_size", RESNET_STRIDE)
    return {**state, key: resize_positions(state[key], side**2 + extra_tokens, extra_tokens)}


def read_source(source: ModelSource) -> Weights:
    """Read the weights that are named. Raises ConfigError that begins with the key that names them."""
    try:
        weights = read_pretrained(source.spec, source.weights)
    except ValueError as error:
        text = str(error)
        raise ConfigError(text if text.startswith("weights=") else f"{source.key}: {text}") from error
    check_classes(weights)
    return weights


def check_classes(weights: Weights) -> None:
    """Raises ConfigError when the config of the weights names a class that is missing or takes other arguments now."""
    named = {"model": weights.model, "tokenizer": weights.tokenizer}
    try:
        check({**named, "transform": {**weights.transform, "_partial_": True}}, {**named, "transform": None})
    except ConfigError as error:
        raise ConfigError(
            f"{weights.source}: its config does not fit this cliplab: {error}; load it with the version that wrote it (its "
            "run's manifest.json has the commit), or restore the class"
        ) from error


def with_weights(cfg: Any, overrides: Sequence[str], source: ModelSource) -> tuple[dict[str, Any], Weights]:
    """The resolved config with the model, tokenizer and image size of the file; and the weights of the file. With
    ``pretrained_tower``, both are for one tower.

    If the run folder already holds a config (of a resumed run, or on a rank other than the first), that config stays.
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
            wanted = OmegaConf.select(cfg, "model.image_encoder.image_size")
            weights = replace(weights, transform=resized_transform(weights.transform, stated, wanted))
            cfg.data.eval_transform = weights.sized_transform("${model.image_encoder.image_size}")
    config = resolved(cfg)
    state = {k: v for k, v in weights.state.items() if tower is None or k.startswith(f"{tower}.")}
    state = resized(state, config["model"]["image_encoder"])
    weights = replace(weights, model=config["model"], tokenizer=config["tokenizer"], state=state, tower=tower)
    check({"model": config["model"], "tokenizer": config["tokenizer"]}, {"model": None, "tokenizer": None})
    return config, weights


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Load every tensor of the file into the model or its tower. Raises ValueError that lists what does not fit."""
    kept = {k: v for k, v in model.state_dict().items() if weights.tower and not k.startswith(f"{weights.tower}.")}
    load_exactly(model, {**kept, **weights.state}, weights.source)
