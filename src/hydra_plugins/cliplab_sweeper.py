"""Hydra finds sweepers in this package. It is imported at every start: what works is imported when a sweep begins."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CliplabSweeper(Sweeper):
    """Hands a sweep over to cliplab."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.whole = (config, hydra_context, task_function)

    def sweep(self, arguments: list[str]) -> Any:
        from cliplab.sweeps.command import run_sweep

        return run_sweep(arguments, *self.whole)
