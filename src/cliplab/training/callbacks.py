"""Callbacks: they call evaluators and write down what comes back; the arithmetic is elsewhere."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from torch import Tensor

from cliplab.evaluation.result import EvaluationResult
from cliplab.models.tokens import Tokens
from cliplab.training.loggers import CSVLogger


def run_evaluator(evaluator: Any, module: LightningModule, tokenizer: Callable, precision: Any) -> EvaluationResult:
    """Evaluate the unwrapped model in eval mode, without gradient, in the run's precision; then restore the mode."""
    model, training = module.model, module.model.training
    model.eval()
    try:
        with torch.inference_mode(), precision:
            return evaluator.evaluate(model, tokenizer, module.device)
    finally:
        model.train(training)


class Evaluate(Callback):
    """Runs the evaluators before training and after every ``every_n_epochs`` epochs (or ``every_n_steps`` steps).

    Logs ``zeroshot/<set>/<metric>`` (``val/<metric>`` for the validation pairs), which other callbacks may monitor, and
    appends one line per evaluation to ``zeroshot/history.jsonl``. ``results`` holds the latest.
    """

    def __init__(
        self,
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        before_training: bool = True,
    ) -> None:
        self.every_n_epochs, self.every_n_steps, self.before_training = every_n_epochs, every_n_steps, before_training
        self.evaluators: Sequence[Any] = ()
        self.results: dict[str, EvaluationResult] = {}
        self.evaluated_step = -1

    def prepare(
        self, *, evaluators: Sequence[Any], tokenizer: Callable[[Sequence[str]], Tokens], run_dir: Path
    ) -> None:
        """Set by the task: what to evaluate, with which tokenizer, and where the history goes."""
        self.evaluators, self.tokenizer = evaluators, tokenizer
        self.history = run_dir / "zeroshot" / "history.jsonl"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._drop_history_after(trainer.global_step)
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger) and trainer.is_global_zero:
                logger.rewind(trainer.global_step)
        if self.before_training and trainer.global_step == 0:
            metrics = self._evaluate(trainer, pl_module)
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._log(pl_module, self._evaluate(trainer, pl_module), on_step=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = trainer.global_step >= pl_module.total_steps
        if last or (not self.every_n_steps and (trainer.current_epoch + 1) % self.every_n_epochs == 0):
            self._log(pl_module, self._evaluate(trainer, pl_module), on_step=False)

    @staticmethod
    def _log(module: LightningModule, metrics: dict[str, float], on_step: bool) -> None:
        module.log_dict(metrics, on_step=on_step, on_epoch=not on_step, rank_zero_only=True)

    def _evaluate(self, trainer: Trainer, module: LightningModule) -> dict[str, float]:
        metrics, lines = {}, []
        step = trainer.global_step
        for evaluator in self.evaluators:
            result = run_evaluator(evaluator, module, self.tokenizer, trainer.precision_plugin.forward_context())
            self.results[result.name] = result
            prefix = "val" if result.name == "val" else f"zeroshot/{result.name}"
            metrics |= {f"{prefix}/{key}": value for key, value in result.metrics.items()}
            lines.append(
                {
                    "set": result.name,
                    "task": result.task,
                    "epoch": trainer.current_epoch + (step > 0),
                    "step": step,
                    "samples_seen": step * trainer.datamodule.batch_size,  # type: ignore[attr-defined]
                    "metrics": result.metrics,
                    "protocol_hash": result.protocol_hash,
                    "seconds": result.seconds,
                }
            )
        self.evaluated_step = step
        if trainer.is_global_zero and lines:
            self.history.parent.mkdir(parents=True, exist_ok=True)
            with self.history.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
        return metrics

    def _drop_history_after(self, step: int) -> None:
        if self.history.is_file():
            lines = [x for x in self.history.read_text().splitlines() if json.loads(x)["step"] <= step]
            self.history.write_text("".join(line + "\n" for line in lines))


class Throughput(Callback):
    """Logs images/s, tokens/s (without padding) and the learning rate; evaluation time does not count."""

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 or trainer.global_step % self.every_n_steps == 0:
            self.start, self.images, self.tokens = time.perf_counter(), 0, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch.images) * trainer.world_size
        self.tokens += int(batch.tokens.lengths.sum()) * trainer.world_size
        seconds = time.perf_counter() - self.start
        rates = {"train/images_per_second": self.images / seconds, "train/tokens_per_second": self.tokens / seconds}
        pl_module.log_dict(rates | {"train/lr": trainer.optimizers[0].param_groups[0]["lr"]})


class GradientNorm(Callback):
    """Logs the norm of the whole gradient before clipping."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        norms: list[Tensor] = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
        pl_module.log("train/grad_norm", torch.stack(norms).norm())


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar with loss, scale, images/s and the latest zero-shot accuracies."""

    SHOWN = {"train/loss": "loss", "train/logit_scale": "scale", "train/images_per_second": "img/s"}

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate, theme=RichProgressBarTheme(metrics_format=".4g"))

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        known = trainer.callback_metrics
        shown: dict[str, Any] = {short: float(known[key]) for key, short in self.SHOWN.items() if key in known}
        return shown | {key.split("/")[1]: float(v) for key, v in known.items() if key.endswith("/acc1")}
