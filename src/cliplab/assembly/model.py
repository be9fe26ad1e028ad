"""Build the model that ``run=``, ``ckpt=`` or ``pretrained=`` names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cliplab.assembly.device import one_device
from cliplab.assembly.objective import trained_objective
from cliplab.assembly.weights import FREE, check_classes, load_weights, resized, with_weights
from cliplab.checkpoints.earlier import current
from cliplab.checkpoints.run_checkpoint import CONFIG, model_state, objective_state, saved_state, standalone_config
from cliplab.checkpoints.torchscript import is_torchscript
from cliplab.checkpoints.weights import ObjectiveWeights, Weights, resized_transform
from cliplab.embedding.model import EmbeddingModel
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError, resolved, typed_keys
from cliplab.settings.job import Job
from cliplab.settings.model_source import KEYS, ModelSource, model_source

COMMAND_KEYS = ("task", "paths", "weights", *KEYS)  # keys that the command decides, not the config of the checkpoint


def model_weights(job: Job) -> Weights:
    """Read the weights that a command names, with the settings typed under ``model``. Raises ConfigError if that fails."""
    return with_weights(job.composed, job.typed, model_source(job.config))[1]


def embedding_model(weights: Weights, **settings: Any) -> EmbeddingModel:
    """Build the model that the weights describe. ``settings`` are passed to ``EmbeddingModel``."""
    check_classes(weights)
    model = build(weights.model, "model")
    load_weights(model, weights)
    transform = build(weights.sized_transform(model.image_size), "data.eval_transform")
    return EmbeddingModel(
        model=model,
        tokenizer=build(weights.tokenizer, "tokenizer"),
        transform=transform,
        source=weights.source,
        objective=trained_objective(weights, model),
        **settings,
    )


def task_model(job: Job) -> EmbeddingModel:
    """The named model, on the device of the trainer, with the batch size and the workers of the task."""
    task, device = job.config["task"], one_device(job.config["trainer"]["accelerator"])
    return embedding_model(model_weights(job), device=device, batch_size=task["batch_size"], workers=task["workers"])


def evaluated_config(job: Job, source: ModelSource) -> tuple[dict[str, Any], Weights]:
    """The config and the weights to evaluate. A checkpoint of cliplab brings its whole config, in which only typed values
    are replaced. Other weights bring their model and tokenizer; the rest of the config is the composed one."""
    checkpoint = _read_own_checkpoint(Path(source.spec))
    if checkpoint is not None:
        return _from_checkpoint(job, source, checkpoint)
    config, weights = with_weights(job.composed, job.typed, source)
    if "name" not in job.typed_keys:
        config["name"] = Path(source.spec.rpartition(":")[2]).stem
    if not {"data", "experiment"} & set(job.typed_keys):
        config["data"]["validation"] = None  # the default data were not asked for
    return config, weights


def _read_own_checkpoint(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint of cliplab. None for any other file, even a damaged one, which its reader reports."""
    if not path.is_file() or path.suffix == ".safetensors" or is_torchscript(path):
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        return None
    return saved if isinstance(saved, dict) and CONFIG in saved else None


def _from_checkpoint(job: Job, source: ModelSource, checkpoint: dict[str, Any]) -> tuple[dict[str, Any], Weights]:
    stored = checkpoint_config(current(checkpoint[CONFIG]), job.composed, job.typed)
    config = standalone_config(stored, checkpoint)
    try:
        saved = saved_state(checkpoint, source.weights, source.spec)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    state = resized(model_state(saved), config["model"]["image_encoder"])
    objective = ObjectiveWeights(config["objective"], objective_state(saved))
    weights = Weights(config["model"], config["tokenizer"], state, source.spec, objective=objective)
    check_classes(weights)
    return config, weights


def checkpoint_config(saved: dict[str, Any], composed: Any, typed: Sequence[str]) -> dict[str, Any]:
    """The config of the checkpoint with the task and the paths of this command, and with the typed values.

    With other data (``data=…``), pictures are still prepared as the weights were trained to see them, unless
    ``data.eval_transform`` is typed.
    """
    stored = OmegaConf.create(saved)
    transform = OmegaConf.select(stored, "data.eval_transform")
    for key in COMMAND_KEYS:
        stored[key] = composed[key]
    _check_sizes(stored, composed, typed)
    for key in sorted(set(typed_keys(typed)) - set(COMMAND_KEYS)):  # a group comes before the keys below it
        if "/" in key:
            raise ConfigError(f"{key}: the checkpoint brings its own towers; evaluate another checkpoint instead")
        if OmegaConf.is_config(OmegaConf.select(composed, key)) and "." not in key:
            stored[key] = OmegaConf.create(OmegaConf.to_container(composed[key], resolve=False))
            if key == "data" and transform is not None:
                stored.data.eval_transform = transform
        elif key != "experiment":
            OmegaConf.update(stored, key, OmegaConf.select(composed, key), merge=True)
    if not any(key.startswith("data.eval_transform") for key in typed_keys(typed)):
        _follow_image_size(stored, OmegaConf.create(saved))
    return resolved(stored)


def _check_sizes(stored: Any, composed: Any, typed: Sequence[str]) -> None:
    """Raises ConfigError for a value typed under ``model`` that the checkpoint's weights do not have."""
    for key in typed_keys(typed):
        free = key.removeprefix("model.") in FREE or not key.startswith("model.") or key.endswith("_")
        was, now = (OmegaConf.select(config, key) for config in (stored, composed))
        if not free and not OmegaConf.is_config(was) and was is not None and was != now:
            raise ConfigError(f"{key}: it is {was} in the checkpoint, not {now}; leave it out")


def _follow_image_size(stored: Any, before: Any) -> None:
    """Prepare images at the image tower's size where that is another than before."""
    old, new = (OmegaConf.select(config, "model.image_encoder.image_size") for config in (before, stored))
    transform = OmegaConf.select(stored, "data.eval_transform")
    if transform is not None and old != new:
        values: Any = OmegaConf.to_container(transform, resolve=True)
        stored.data.eval_transform = {**resized_transform(values, old, new), "image_size": new}
