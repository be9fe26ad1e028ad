"""The model that a command works with, from ``ckpt=``, ``run=`` or ``pretrained=``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from cliplab.checkpoints.weights import Weights
from cliplab.embedding.model import EmbeddingModel
from cliplab.settings.config import ConfigError, build
from cliplab.settings.pretrained import check_classes, load_weights, read_named, with_weights


def model_key(config: dict[str, Any]) -> str:
    """Which of ckpt, run and pretrained names the model. Raises ConfigError unless it is exactly one, and a run or a
    checkpoint is there."""
    given = [key for key in ("ckpt", "run", "pretrained") if config.get(key)]
    if len(given) != 1:
        task = config["task"]["name"]
        told = f"{' and '.join(given)} are given; one is enough" if given else f"task={task} needs a model"
        raise ConfigError(
            f"{given[0] if given else 'ckpt'}: {told}: ckpt=<run>/checkpoints/last.ckpt, run=<run folder> or "
            "pretrained=<foreign weights>"
        )
    place = Path(str(config[given[0]])).expanduser()
    if given != ["pretrained"] and not place.exists():
        raise ConfigError(f"{given[0]}: {place} is neither a file nor a folder; name one that a run has written")
    return given[0]


def named_weights(config: dict[str, Any], cfg: Any, overrides: Sequence[str]) -> Weights:
    """The weights a command names. Raises ConfigError as ``model_key`` does, or when they cannot be read."""
    key = model_key(config)
    return with_weights(cfg, overrides)[1] if key == "pretrained" else read_named(key, str(config[key]))


def embedding_model(weights: Weights, **settings: Any) -> EmbeddingModel:
    """Build what the weights describe; ``settings`` go to ``EmbeddingModel``."""
    check_classes(weights)
    model = build(weights.model, "model")
    load_weights(model, weights)
    transform = build({"_target_": weights.transform, "image_size": model.image_size}, "data.eval_transform")
    return EmbeddingModel(
        model=model,
        tokenizer=build(weights.tokenizer, "tokenizer"),
        transform=transform,
        source=weights.source,
        **settings,
    )


def task_model(config: dict[str, Any], cfg: Any, overrides: Sequence[str]) -> EmbeddingModel:
    """The named model on the trainer's device, with the batch size and the workers of the task."""
    accelerator, task = config["trainer"]["accelerator"], config["task"]
    device = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    weights = named_weights(config, cfg, overrides)
    return embedding_model(weights, device=device, batch_size=task["batch_size"], workers=task["workers"])


def run_folder(source: str) -> Path | None:
    """The folder of the run that wrote the weights, when they still lie in it."""
    folder = Path(source).parent.parent
    return folder if (folder / "manifest.json").is_file() and (folder / "config.yaml").is_file() else None


def model_name(source: str) -> str:
    """The experiment's name, or what the foreign file or model is called."""
    run = run_folder(source)
    if run is not None:
        return str(yaml.safe_load((run / "config.yaml").read_text(encoding="utf8"))["name"])
    words = source.split(":")
    return words[1] if words[0] == "open_clip" and len(words) > 1 else Path(source).stem
