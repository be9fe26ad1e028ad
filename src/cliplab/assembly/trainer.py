"""The trainer of a run, and the command by which it starts its other ranks."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks import ProgressBar as LightningBar
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf

from cliplab.assembly.device import choose_precision
from cliplab.program import hydra_quoted
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError, for_lightning
from cliplab.training.checkpoint_io import AtomicCheckpointIO
from cliplab.training.module import TrainingModule
from cliplab.training.sharding import ShardedStrategy, ShardedTrainingModule, refusal


def module_class(config: dict[str, Any]) -> type[TrainingModule]:
    """The kind of module that ``trainer.strategy`` needs. Raises ConfigError for what cannot be trained with it."""
    if config["trainer"]["strategy"] != "fsdp":
        return TrainingModule
    if reason := refusal(config):
        raise ConfigError(reason)
    return ShardedTrainingModule


def build_trainer(
    config: dict[str, Any],
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    run_dir: Path,
    module: TrainingModule,
) -> lightning.Trainer:
    """Build the trainer. It stops by steps: Lightning's epochs may be off by one in a resumed run.

    With DDP, ranks do not wait for the gradients of parameters that the objective does not use.
    """
    settings = {**for_lightning(config["trainer"]), "max_epochs": -1, "max_steps": module.total_steps}
    if settings["strategy"] == "fsdp":
        settings["strategy"] = ShardedStrategy()
    if settings["strategy"] == "ddp" and module.leaves_parameters_unread:
        settings["strategy"] = "ddp_find_unused_parameters_true"
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    plugins = [AtomicCheckpointIO(), *(settings.pop("plugins", None) or [])]
    settings["enable_progress_bar"] = any(isinstance(c, LightningBar) for c in callbacks)  # else Lightning adds its own
    return build(
        settings, "trainer", callbacks=callbacks, logger=loggers, plugins=plugins, default_root_dir=str(run_dir)
    )


@contextmanager
def relaunch_from_folder(run_dir: Path) -> Iterator[None]:
    """Let Lightning start the other ranks with ``resume=<run_dir>`` in place of this command's arguments.

    They read the config in the folder of the run, so that all ranks train the same job in the same folder, whatever was
    typed (a sweep, a resume).
    """
    typed, hydra_config = sys.argv, HydraConfig.get()
    sys.argv = [typed[0], f"resume={hydra_quoted(run_dir)}"]
    OmegaConf.set_readonly(hydra_config, False)  # type: ignore[arg-type]
    hydra_config.run.dir = str(run_dir)
    try:
        yield
    finally:
        sys.argv = typed
