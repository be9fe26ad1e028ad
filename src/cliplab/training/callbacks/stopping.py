"""Stop a run between two steps at a signal, so that it can be resumed."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from cliplab.signals import StopRequest


class StopBetweenSteps(Callback):
    """On SIGINT or SIGTERM, finishes the step, writes ``path`` and stops. On a second signal, stops at once.

    A checkpoint from the middle of a step could not be resumed exactly. All ranks stop after the same step.
    """

    def __init__(self, path: str) -> None:
        self.path, self.request = path, StopRequest()

    def prepare(self, request: StopRequest) -> None:
        """Called by the task. ``request`` records signals."""
        self.request = request

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.request.listen()  # Lightning has installed its own handler
        self.request.gentle = True

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.strategy.reduce_boolean_decision(bool(self.request.number), all=False):
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self.request.gentle = False
