"""What training checks and counts before it starts: the device, parts that must fit each other, steps."""

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import nn

from cliplab.data.loader import too_few_samples
from cliplab.optim.param_groups import ParameterGroup, build_optimizer
from cliplab.settings.build import build
from cliplab.settings.check_trainer import NO_GPU
from cliplab.settings.config import ConfigError
from cliplab.settings.length import Length, length_of, too_short


def is_first_rank() -> bool:
    """Whether this is the first rank. Lightning reads this from the environment, so it is known before the ranks connect."""
    return getattr(rank_zero_only, "rank", 0) == 0


def count_steps(config: dict[str, Any], steps_per_epoch: int, samples: int) -> tuple[int, Length]:
    """The optimizer steps of an epoch, and the length of the run. Lightning's estimate would disturb a resumed loader."""
    if steps_per_epoch < 1:
        raise ValueError(too_few_samples(samples, config["data"]["batch_size"]))
    limit = config["trainer"]["limit_train_batches"]
    if isinstance(limit, int):
        steps_per_epoch = min(limit, steps_per_epoch)
    elif isinstance(limit, float):
        steps_per_epoch = int(limit * steps_per_epoch)
    return steps_per_epoch, length_of(config["trainer"], steps_per_epoch)


def fitting_schedule(node: dict[str, Any], steps: int) -> dict[str, Any]:
    """The config of the schedule. A warm-up that would outlast the run takes a quarter of the run instead; this is printed.

    A tenth would reach the full rate after two or three steps of a short run, at which a small CLIP's features collapse to
    one point (emoji, one epoch: the gradient's norm falls to 0.01 and the loss stays at the logarithm of the batch).
    """
    warmup = node.get("warmup_steps", 0)
    if warmup < steps:
        return node
    fitting = steps // 4
    if is_first_rank():
        print(
            f"scheduler.warmup_steps: {warmup:,} would outlast the {steps:,} steps of this run; {fitting:,} are used, a "
            "quarter of them"
        )
    return {**node, "warmup_steps": fitting}


def check_device(trainer: dict[str, Any]) -> None:
    """Raises ConfigError when a GPU is asked for and there is none."""
    if trainer["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(NO_GPU)


def check_parts(config: dict[str, Any]) -> None:
    """Raises ConfigError for sizes that do not fit and for settings that the optimizer refuses, before data is read."""
    with torch.device("meta"):
        build(config["model"], "model")
    check_optimizer(config["optimizer"])


def _refusal(node: dict[str, Any]) -> Exception | None:
    """The error that the optimizer raises for these settings and two small parameters; None without one."""
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
    """Raises ConfigError when the optimizer refuses its settings. The error names the setting without which the optimizer
    would work, or else the setting that the message of the optimizer names."""
    error = _refusal(node)
    if error is None:
        return
    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    keys = [key for key in node if not key.startswith("_")]
    causes = [key for key in keys if _refusal({k: v for k, v in node.items() if k != key}) is None]
    causes = causes or [key for key in keys if key in reason]
    if causes:
        key = causes[0]
        raise ConfigError(f"optimizer.{key}: {node['_target_']} refuses {node[key]!r}: {reason}") from error
    raise ConfigError(f"optimizer: {node['_target_']} refuses its settings: {reason}") from error


def check_steps_left(length: Length, last: Path) -> None:
    """Raises ConfigError when the run would end before the step of its last checkpoint."""
    if not last.is_file():
        return
    done = torch.load(last, map_location="cpu", mmap=True, weights_only=True)["global_step"]
    if length.steps < done:
        raise ConfigError(f"{length.first.key}: {too_short(length, done)}")


def check_vocabulary(text_encoder: Any, tokenizer: Any) -> None:
    """Raises ConfigError when the tokenizer has more tokens than the text tower."""
    known, embedded = getattr(tokenizer, "vocab_size", 0), getattr(text_encoder, "vocab_size", math.inf)
    if known > embedded:
        raise ConfigError(
            f"tokenizer: it has {known} tokens, but the text tower has {embedded}; choose both by model/text_encoder="
        )
