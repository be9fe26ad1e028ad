"""Log the figures of steps, the counts of the data that was read, and the norm of the gradient."""

import sys
import time
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from cliplab.distributed import total_norm
from cliplab.rules import Count


class LogSteps(Callback):
    """Every ``every_n_steps`` steps, hands loggers what the step logged under ``train/``, with images/s, tokens/s (without
    padding; evaluation time does not count) and the learning rate.

    This happens before a checkpoint of the same step is written, so that a run killed at any moment loses no row.
    """

    def __init__(self, every_n_steps: Count = 10) -> None:
        self.every_n_steps = every_n_steps
        self.start: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.start is None:
            self.start, self.images = time.perf_counter(), 0
            self.tokens = torch.zeros((), dtype=torch.int64, device=batch.tokens.lengths.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.images += len(batch.images) * trainer.world_size
        self.tokens += batch.tokens.lengths.sum() * trainer.world_size
        if trainer.global_step % self.every_n_steps == 0 and self.start is not None:
            seconds, self.start = time.perf_counter() - self.start, None
            group = trainer.optimizers[0].param_groups[0]
            rates = {
                "train/images_per_second": self.images / seconds,
                "train/tokens_per_second": int(self.tokens) / seconds,
                "train/lr": group["lr"] / group.get("lr_scale", 1.0),
            }
            pl_module.log_dict(rates, logger=False)
            row = self._mean_over_ranks(trainer, rates | dict(trainer.callback_metrics))
            for logger in trainer.loggers:
                logger.log_metrics(row, step=trainer.global_step)

    @staticmethod
    def _mean_over_ranks(trainer: Trainer, known: dict[str, Any]) -> dict[str, float]:
        names = sorted(key for key in known if key.startswith("train/"))
        device = trainer.strategy.root_device
        values = torch.stack([torch.as_tensor(known[key], dtype=torch.float64, device=device) for key in names])
        return dict(zip(names, trainer.strategy.reduce(values, reduce_op="mean").tolist(), strict=True))  # type: ignore[union-attr]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.start = None


class ReportData(Callback):
    """At the end of each epoch and of the run, hands loggers the counts of what all ranks have read so far (``data/…``).
    Prints them when a row was unusable, and stops the run when too many were. It runs in the epoch's last step, so that a
    checkpoint of that step already counts it."""

    def __init__(self) -> None:
        self.step = -1  # of the latest report

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % int(trainer.num_training_batches) == 0 or trainer.global_step == trainer.max_steps:
            self._report(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.global_step != self.step:  # a run may end early within an epoch
            self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        self.step = trainer.global_step
        counts = trainer.datamodule.all_counts()  # type: ignore[attr-defined]
        if trainer.is_global_zero and counts.bad:
            print(f"step {trainer.global_step}: {counts}", file=sys.stderr)
        for logger in trainer.loggers:
            logger.log_metrics(counts.metrics(), step=trainer.global_step)
        trainer.datamodule.check_counts(counts)  # type: ignore[attr-defined]


class GradientNorm(Callback):
    """Logs the norm of the whole gradient before clipping."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        pl_module.log("train/grad_norm", total_norm(gradients), logger=False)
