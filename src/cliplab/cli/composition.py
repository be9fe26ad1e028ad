"""Compose the config once, and start the job or the multirun.

``hydra.main`` composes twice: first to look up ``hydra.mode``, then for the job. This module does the same with Hydra's
public pieces, and composes once.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from cliplab.cli import places
from cliplab.cli.arguments import Arguments


class Callbacks:
    """The callbacks of ``hydra.callbacks``, notified as ``hydra.main`` notifies them."""

    def __init__(self, config: DictConfig) -> None:
        nodes = OmegaConf.select(config, "hydra.callbacks") or {}
        self.callbacks = [hydra.utils.instantiate(node) for node in nodes.values()]

    def notify(self, event: str, **arguments: Any) -> None:
        """Call the method ``event`` of every callback, in reverse order at the end of something. A callback that fails
        only warns."""
        for callback in self.callbacks if event.endswith("_start") else reversed(self.callbacks):
            try:
                getattr(callback, event)(**arguments)
            except Exception as error:
                name = type(callback).__name__
                warnings.warn(f"Callback {name}.{event} raised {type(error).__name__}: {error}", stacklevel=2)

    def on_job_start(self, config: DictConfig, **arguments: Any) -> None:
        """Hydra's ``run_job`` calls this."""
        self.notify("on_job_start", config=config, **arguments)

    def on_job_end(self, config: DictConfig, **arguments: Any) -> None:
        """Hydra's ``run_job`` calls this."""
        self.notify("on_job_end", config=config, **arguments)


def start(arguments: Arguments, task: TaskFunction) -> None:
    """Call ``task`` with the composed config, or with the config of each job of a multirun.

    Raises what Hydra and the task raise. Flags that start no job are passed to ``hydra.main``, which composes once for
    them. So is ``--config-dir``, since only ``hydra.main`` puts a folder before the others, and ``hydra.verbose``, with
    which it prints more.
    """
    folder = str(arguments.flags.get("config_path", places.config_dir()))
    others = arguments.shows_only or any(arguments.flags.get(name) for name in ("config_dir", "experimental_rerun"))
    if others or not Path(folder).is_absolute() or any(o.startswith("hydra.verbose") for o in arguments.overrides):
        hydra.main(config_path=str(places.config_dir()), config_name="config", version_base="1.3")(task)()
        return
    name = arguments.flags.get("config_name", "config")
    with hydra.initialize_config_dir(folder, job_name="job", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = compose(loader, name, arguments.overrides, multirun=bool(arguments.flags.get("multirun")))
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        callbacks = Callbacks(config)
        run = _run_jobs if config.hydra.mode == RunMode.MULTIRUN else _run_job
        run(config, task, callbacks, HydraContext(loader, callbacks))  # type: ignore[arg-type]


def compose(loader: ConfigLoader, name: str, overrides: Sequence[str], *, multirun: bool) -> DictConfig:
    """The config for one job or for a multirun; ``hydra.mode`` says which.

    A file or an override may set ``hydra.mode`` without ``-m``. Then the config is composed twice, as it is when several
    values are typed without ``-m``.
    """
    typed = list(overrides)
    if multirun:
        return loader.load_configuration(name, [*typed, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    if not any(o.is_sweep_override() for o in OverridesParser.create().parse_overrides(typed)):
        config = loader.load_configuration(name, typed, RunMode.RUN)
        if config.hydra.mode != RunMode.MULTIRUN:
            config.hydra.mode = RunMode.RUN
            return config
    config = loader.load_configuration(name, typed, RunMode.MULTIRUN, validate_sweep_overrides=False)
    if config.hydra.mode != RunMode.MULTIRUN:
        return loader.load_configuration(name, typed, RunMode.RUN)  # raises: several values need -m
    return config


def _run_job(config: DictConfig, task: TaskFunction, callbacks: Callbacks, context: HydraContext) -> None:
    name = config.hydra.job.config_name
    callbacks.notify("on_run_start", config=config, config_name=name)
    result = run_job(task, config, job_dir_key="hydra.run.dir", job_subdir_key=None, hydra_context=context)
    callbacks.notify("on_run_end", config=config, config_name=name, job_return=result)
    _ = result.return_value  # raises what the task raised


def _run_jobs(config: DictConfig, task: TaskFunction, callbacks: Callbacks, context: HydraContext) -> None:
    name = config.hydra.job.config_name
    callbacks.notify("on_multirun_start", config=config, config_name=name)
    sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=task, config=config)
    typed: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    sweeper.sweep(arguments=typed)
    callbacks.notify("on_multirun_end", config=config, config_name=name)
