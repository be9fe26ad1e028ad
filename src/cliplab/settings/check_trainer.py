"""Check the ``trainer`` group: values that no run can use, and options of Lightning that would have no effect here or would
break cliplab's counting of steps, samples and epochs.

This looks at plain values only. Nothing heavy is imported.
"""

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cliplab.cores import usable_cores
from cliplab.settings.config import ConfigError, did_you_mean

ON_NAN = ("stop", "skip")
# What other programs call a precision
PRECISIONS = {
    **dict.fromkeys(("fp16", "float16", "half", "amp", "mixed", "mixed_precision", "16bit", "fp16-mixed"), "16-mixed"),
    **dict.fromkeys(("bf16", "bfloat16", "amp_bf16", "amp_bfloat16", "bfloat16-mixed"), "bf16-mixed"),
    **dict.fromkeys(("fp32", "float32", "full", "single", "32bit", "tf32"), "32-true"),
    **dict.fromkeys(("pure_bf16", "bf16_full", "bfloat16-true"), "bf16-true"),
    **dict.fromkeys(("pure_fp16", "fp16-true"), "16-true"),
    **dict.fromkeys(("fp64", "float64", "double", "64bit"), "64-true"),
}
CHECKPOINTING = ("none", "all")


class Refused(NamedTuple):
    """An option of Lightning that is refused unless it has one of the ``idle`` values, which change nothing. ``why`` says
    why, and what to use instead."""

    idle: tuple[Any, ...]
    why: str


_NO_ACCUMULATION = (
    "the sum of the gradients of several batches is not the gradient of one large contrastive batch, in which each "
    "sample is compared with all others; set data.batch_size instead"
)
_EVALUATION = "cliplab evaluates in its own way"
_EVALUATION_INTERVAL = (
    f"{_EVALUATION}; set callbacks.evaluation.every_n_epochs or callbacks.evaluation.every_n_steps instead"
)
_EVALUATION_SUBSET = f"{_EVALUATION}; set zeroshot.<set>.subset instead"
REFUSED = {
    "accumulate_grad_batches": Refused((None, 1), _NO_ACCUMULATION),
    "overfit_batches": Refused(
        (None, 0, 0.0), "cliplab orders the samples itself; use debug=overfit, or data.train.limit"
    ),
    "fast_dev_run": Refused(
        (None, False, 0), "it leaves out checkpoints and loggers; use debug=fast, or trainer.max_steps"
    ),
    "val_check_interval": Refused((None, 1.0), _EVALUATION_INTERVAL),
    "check_val_every_n_epoch": Refused((None, 1), _EVALUATION_INTERVAL),
    "num_sanity_val_steps": Refused(
        (None, 0, 2), f"{_EVALUATION}, and starts before training; see callbacks.evaluation.before_training"
    ),
    "limit_val_batches": Refused((None, 1.0), _EVALUATION_SUBSET),
    "limit_test_batches": Refused((None, 1.0), _EVALUATION_SUBSET),
    "limit_predict_batches": Refused((None, 1.0), _EVALUATION_SUBSET),
    "inference_mode": Refused((None, True), f"{_EVALUATION}, always without gradients; leave it out"),
    "reload_dataloaders_every_n_epochs": Refused(
        (None, 0), "the order of samples changes in each epoch without it; leave it out"
    ),
    "use_distributed_sampler": Refused(
        (None, False), "each rank already reads its own share of data.batch_size; leave it out"
    ),
    "enable_checkpointing": Refused(
        (None, True),
        "set callbacks.checkpoint.every_n_epochs, or leave them out with ~callbacks.checkpoint ~callbacks.best",
    ),
    "enable_progress_bar": Refused((None, True), "leave it out with ~callbacks.progress instead"),
    "barebones": Refused(
        (None, False), "it leaves out checkpoints, loggers and evaluation; see task=benchmark instead"
    ),
    "logger": Refused((None,), "loggers have their own group: logger=csv, or ~logger.csv"),
    "callbacks": Refused((None,), "callbacks have their own group: +callbacks.<name>._target_=…"),
    "default_root_dir": Refused((None,), "a run writes into its own folder; set hydra.run.dir or paths.logs instead"),
}
REFUSED_CALLBACKS = {
    "GradientAccumulationScheduler": _NO_ACCUMULATION,
    "BatchSizeFinder": "its trial steps would be counted, and the loss depends on the batch size; set data.batch_size",
    "LearningRateFinder": "its trial steps would be counted; compare rates in runs: -m optimizer.lr=1e-4,3e-4,1e-3",
    "StochasticWeightAveraging": "it replaces the schedule, and it counts Lightning's epochs, which cliplab does not use",
}


def check_trainer(config: Mapping[str, Any]) -> None:
    """Raises ConfigError when a run cannot work with a value of ``trainer`` or with a callback of Lightning."""
    trainer = config.get("trainer") or {}
    for key, value in trainer.items():
        if key in REFUSED and value not in REFUSED[key].idle:
            raise ConfigError(f"trainer.{key}: {value!r}: {why_refused(key, trainer)}")
    _check_devices(trainer.get("devices", "auto"))
    longest = trainer.get("max_time")
    if isinstance(longest, str | int | float) and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", str(longest)):
        raise ConfigError(
            f"trainer.max_time: {longest!r} is no time; write days:hours:minutes:seconds, as '00:12:00:00'"
        )
    precision = str(trainer.get("precision"))
    if precision.lower() in PRECISIONS and precision != "bf16":
        raise ConfigError(
            f"trainer.precision: {precision!r} is not a choice; did you mean {PRECISIONS[precision.lower()]!r}?"
        )
    if precision.startswith("transformer-engine"):
        raise ConfigError(
            f"trainer.precision: {precision!r} exchanges the layers of a model for those of transformer_engine, and "
            "cliplab's weights and checkpoints have torch's; use bf16-mixed, or bf16-true for half the memory of weights"
        )
    on_nan = trainer.get("on_nan", "stop")
    if on_nan not in ON_NAN:
        hint = did_you_mean(str(on_nan), ON_NAN)
        raise ConfigError(f"trainer.on_nan: {on_nan!r} must be {' or '.join(ON_NAN)}{hint}")
    _check_checkpointing(trainer.get("activation_checkpointing", "none"))
    _check_accumulation(trainer.get("contrastive_accumulation", 1), (config.get("data") or {}).get("batch_size"))
    for name, node in (config.get("callbacks") or {}).items():
        target = str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, Mapping) else ""
        if target in REFUSED_CALLBACKS:
            raise ConfigError(f"callbacks.{name}: {target}: {REFUSED_CALLBACKS[target]}")


def every_nth(activation_checkpointing: Any) -> int:
    """Which layers are checkpointed: 0 none, 1 each of them, 2 every second."""
    return {"none": 0, None: 0, "all": 1}.get(activation_checkpointing, activation_checkpointing)


def _check_checkpointing(chosen: Any) -> None:
    number = every_nth(chosen) if isinstance(chosen, str | int | None) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        hint = did_you_mean(chosen, CHECKPOINTING) if isinstance(chosen, str) else ""
        raise ConfigError(
            f"trainer.activation_checkpointing: {chosen!r} must be none, all, or a number: 2 takes every second block{hint}"
        )


def _check_accumulation(chunks: Any, batch_size: Any) -> None:
    if not isinstance(chunks, int) or isinstance(chunks, bool) or chunks < 1:
        raise ConfigError(
            f"trainer.contrastive_accumulation: {chunks!r} must be a whole number from 1 on, the parts of a batch that are "
            "encoded one after the other"
        )
    if isinstance(batch_size, int) and chunks > max(batch_size, 1):
        raise ConfigError(
            f"trainer.contrastive_accumulation: {chunks} parts are more than the {batch_size} pairs of data.batch_size; "
            f"set {batch_size} or less"
        )


def _check_devices(devices: Any) -> None:
    """Raises ConfigError unless devices are a number, a list of numbers, or ``auto``."""
    numbers = devices.split(",") if isinstance(devices, str) else devices if isinstance(devices, list) else [devices]
    whole = [re.fullmatch(r"-?\d+", str(number).strip()) and not isinstance(number, bool) for number in numbers]
    listed = isinstance(devices, list) or (isinstance(devices, str) and "," in devices)
    lowest = 0 if listed else 1
    fits = bool(numbers) and all(whole) and all(int(number) >= lowest for number in numbers)
    if devices not in ("auto", -1, "-1") and not fits:
        raise ConfigError(
            f"trainer.devices: {devices!r} must be a number of devices, 1 or more, a list of their numbers, or auto; "
            "-1 takes all"
        )


TRAIN = ("train", "lr_find")  # other tasks take the CPU where there is no GPU
OTHER_DEVICES = "trainer=cpu, or trainer=default for any"
NO_GPU = f"trainer.accelerator: no GPU was found; use {OTHER_DEVICES}"
# Files of the drivers of NVIDIA, of Linux in Windows, of Jetson boards and of AMD
DRIVERS = (
    "/dev/nvidiactl",
    "/dev/nvidia0",
    "/proc/driver/nvidia",
    "/dev/dxg",
    "/dev/nvhost-gpu",
    "/dev/nvmap",
    "/dev/kfd",
)
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def gpu_is_possible(root: Path = Path("/")) -> bool:
    """Whether torch might find a GPU. False on Linux without a driver, and where the environment hides all GPUs. Torch
    decides after its import."""
    if any(os.environ.get(name, "0").strip() in ("", "-1") for name in VISIBLE):
        return False
    if not sys.platform.startswith("linux"):
        return True
    return any((root / path.lstrip("/")).exists() for path in DRIVERS) or shutil.which("nvidia-smi") is not None


def check_gpu(config: Mapping[str, Any]) -> None:
    """Raises ConfigError when training asks for a GPU and there cannot be one."""
    accelerator = (config.get("trainer") or {}).get("accelerator")
    if accelerator == "mps" and sys.platform != "darwin":
        raise ConfigError(f"trainer.accelerator: mps is for Apple's computers; use {OTHER_DEVICES}")
    if accelerator == "tpu" and importlib.util.find_spec("torch_xla") is None:
        raise ConfigError(
            f"trainer.accelerator: tpu needs the package torch_xla, which is not installed; or use {OTHER_DEVICES}"
        )
    wanted = accelerator in ("gpu", "cuda")
    if wanted and (config.get("task") or {}).get("name") in TRAIN and not gpu_is_possible():
        raise ConfigError(NO_GPU)


def check_processes(trainer: Mapping[str, Any]) -> None:
    """Raises ConfigError for more CPU processes than cores. Each would import torch and wait for all others."""
    accelerator, devices = trainer.get("accelerator"), trainer.get("devices")
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not gpu_is_possible())
    most = max(2, usable_cores())
    count = int(devices) if isinstance(devices, int | str) and str(devices).isdecimal() else 0
    if on_cpu and count > most:
        raise ConfigError(
            f"trainer.devices: {devices!r} processes on CPUs are more than this machine's {most} cores; "
            f"set trainer.devices={most} or less"
        )


def why_refused(key: str, known: Collection[str]) -> str:
    """Why an option of Lightning is refused, and what to use instead; "" for any other option. ``known`` are the keys of the
    group."""
    if key not in REFUSED:
        return ""
    more = "contrastive_accumulation"
    in_parts = f", and trainer.{more} if it does not fit into memory" if more in known else ""
    return REFUSED[key].why + (in_parts if key == "accumulate_grad_batches" else "")
