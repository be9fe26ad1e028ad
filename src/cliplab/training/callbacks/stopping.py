"""Signals: a run stops between two steps, and can go on from there."""

import signal
import threading
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback


class StopBetweenSteps(Callback):
    """On SIGINT or SIGTERM finishes the step, writes ``path`` and stops; on a second signal stops at once.

    A checkpoint from the middle of a step could not be resumed exactly. All ranks stop after the same step.
    """

    def __init__(self, path: str) -> None:
        self.path, self.signal = path, 0
        self.before: dict[int, Any] = {}

    def _note(self, number: int, frame: Any) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self.before = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.strategy.reduce_boolean_decision(bool(self.signal), all=False):
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
