"""What training checks and counts before it begins: a device, parts that fit each other, steps."""

import math
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import nn

from cliplab.optim.param_groups import ParameterGroup, build_optimizer
from cliplab.settings.build import build
from cliplab.settings.check_trainer import NO_GPU
from cliplab.settings.config import ConfigError


def is_first_rank() -> bool:
    """Also before the ranks have met: Lightning reads it from the environment it starts them with."""
    return getattr(rank_zero_only, "rank", 0) == 0


def count_steps(config: dict[str, Any], steps_per_epoch: int) -> tuple[int, int]:
    """Optimizer steps of an epoch and of the whole run: the trainer's own estimate would disturb a resumed loader."""
    if steps_per_epoch < 1:
        raise ValueError(f"data.batch_size {config['data']['batch_size']} exceeds the training samples; lower it")
    limit = config["trainer"]["limit_train_batches"]
    if isinstance(limit, int):
        steps_per_epoch = min(limit, steps_per_epoch)
    elif isinstance(limit, float):
        steps_per_epoch = int(limit * steps_per_epoch)
    epochs, most = config["trainer"]["max_epochs"], config["trainer"]["max_steps"]
    steps = math.inf if epochs in (None, -1) else epochs * steps_per_epoch
    return steps_per_epoch, int(min(steps, most) if most and most > 0 else steps)


def fitting_schedule(node: dict[str, Any], steps: int) -> dict[str, Any]:
    """The schedule's config; a warm-up longer than a short trial run is cut to a tenth of it, and that is said."""
    warmup = node.get("warmup_steps", 0)
    if warmup < steps:
        return node
    if is_first_rank():
        print(f"scheduler.warmup_steps: {warmup} would outlast the {steps} steps of this run; {steps // 10} are used")
    return {**node, "warmup_steps": steps // 10}


def check_device(trainer: dict[str, Any]) -> None:
    """Raises ConfigError when a GPU is asked for and there is none."""
    if trainer["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(NO_GPU)


def check_parts(config: dict[str, Any]) -> None:
    """Sizes that do not fit and settings that the optimizer refuses are told before any data is read."""
    with torch.device("meta"):
        build(config["model"], "model")
    check_optimizer(config["optimizer"])


def _refusal(node: dict[str, Any]) -> Exception | None:
    """Why the optimizer cannot be made with these settings, tried on two small parameters."""
    groups: list[ParameterGroup] = [
        {"params": [nn.Parameter(torch.zeros(2, 2))], "name": "model.hidden", "role": "hidden", "lr_scale": 1.0},
        {"params": [nn.Parameter(torch.zeros(2))], "name": "model.vectors", "role": "vectors", "lr_scale": 1.0},
    ]
    try:
        build_optimizer(build(node, "optimizer"), groups)
    except Exception as error:
        return error
    return None


def check_optimizer(node: dict[str, Any]) -> None:
    """Raises ConfigError when the optimizer refuses its settings: with the key of the one without which it would not, or
    that its message names."""
    error = _refusal(node)
    if error is None:
        return
    told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    keys = [key for key in node if not key.startswith("_")]
    at_fault = [key for key in keys if _refusal({k: v for k, v in node.items() if k != key}) is None]
    at_fault = at_fault or [key for key in keys if key in told]
    if at_fault:
        key = at_fault[0]
        raise ConfigError(f"optimizer.{key}: {node['_target_']} refuses {node[key]!r}: {told}") from error
    raise ConfigError(f"optimizer: {node['_target_']} refuses its settings: {told}") from error


def check_vocabulary(text_encoder: Any, tokenizer: Any) -> None:
    """Raises ConfigError when the tokenizer knows more tokens than the text tower."""
    known, embedded = getattr(tokenizer, "vocab_size", 0), getattr(text_encoder, "vocab_size", math.inf)
    if known > embedded:
        raise ConfigError(
            f"tokenizer: it has {known} tokens, the text tower {embedded}; choose them together, model/text_encoder="
        )
