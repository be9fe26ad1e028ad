"""Callbacks: they call evaluators and write down what comes back; the arithmetic is elsewhere."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

from cliplab.evaluation.result import EvaluationResult, file_stem
from cliplab.files import whole_file
from cliplab.models.tokens import Tokens
from cliplab.training.loggers import CSVLogger
from cliplab.training.module import ContrastiveModule
from cliplab.training.panel import PredictionPanel, log_reference_lines


def run_evaluator(
    evaluator: Any, module: ContrastiveModule, tokenizer: Callable, precision: Any, *, thorough: bool
) -> EvaluationResult:
    """Evaluate the unwrapped model in eval mode, without gradient, in the run's precision; then restore the mode."""
    model, training = module.model, module.model.training
    model.eval()
    try:
        with torch.inference_mode(), precision:
            return evaluator.evaluate(model, tokenizer, module.device, thorough=thorough)
    finally:
        module.train(training)  # frozen parts stay in eval mode


def named_metrics(result: EvaluationResult) -> dict[str, float]:
    """The metrics as they are logged: ``zeroshot/<set>/<metric>``, ``linear_probe/<set>/<metric>``, or ``val/<metric>``
    for the validation pairs."""
    group = "linear_probe" if result.task == "linear_probe" else "zeroshot"
    prefix = "val" if result.name == "val" else f"{group}/{result.name}"
    return {f"{prefix}/{key}": value for key, value in result.metrics.items()}


class Evaluate(Callback):
    """Runs the evaluators before training and after every ``every_n_epochs`` epochs (or ``every_n_steps`` steps).

    Logs ``zeroshot/<set>/<metric>`` (``val/<metric>`` for the validation pairs), which other callbacks may monitor, and
    appends one line per evaluation to ``zeroshot/history.jsonl``. ``results`` holds the latest, by ``file_stem``. The
    evaluation of the last step is thorough; ``evaluated_step`` is the step of the latest thorough one. ``panel_images``
    of the first classification set are drawn with the answers each time; 0 draws none.
    """

    def __init__(
        self,
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        before_training: bool = True,
        panel_images: int = 16,
    ) -> None:
        self.every_n_epochs, self.every_n_steps, self.before_training = every_n_epochs, every_n_steps, before_training
        self.panel_images = panel_images
        self.evaluators: Sequence[Any] = ()
        self.results: dict[str, EvaluationResult] = {}
        self.evaluated_step = -1

    def prepare(
        self,
        *,
        evaluators: Sequence[Any],
        tokenizer: Callable[[Sequence[str]], Tokens],
        run_dir: Path,
        steps_per_epoch: int,
        total_steps: int,
    ) -> None:
        """Set by the task: what to evaluate, with which tokenizer, where the history goes, and when epochs end."""
        self.evaluators, self.tokenizer = evaluators, tokenizer
        self.history = run_dir / "zeroshot" / "history.jsonl"
        self.panel = PredictionPanel(run_dir, self.panel_images)
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps

    def _due(self, step: int) -> bool:
        every = self.every_n_steps or self.every_n_epochs * self.steps_per_epoch
        return step % every == 0 or step == self.total_steps

    def on_train_start(self, trainer: Trainer, pl_module: ContrastiveModule) -> None:  # type: ignore[override]
        step = trainer.global_step
        if trainer.is_global_zero:
            # What was evaluated after the step where training goes on is forgotten; all of it when training starts over.
            self._keep_history(lambda earlier: 0 < step >= earlier)
            for logger in trainer.loggers:
                if isinstance(logger, CSVLogger):
                    logger.rewind(step)
        if self.before_training and step == 0:
            self.evaluate(trainer, pl_module, thorough=False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: ContrastiveModule, *_: Any) -> None:  # type: ignore[override]
        """An epoch's evaluation belongs to its last step, so that a checkpoint of that step already knows of it."""
        if self._due(trainer.global_step):
            thorough = trainer.global_step == self.total_steps
            metrics = self.evaluate(trainer, pl_module, thorough=thorough)
            pl_module.log_dict(metrics, logger=False, rank_zero_only=True)

    def evaluate(self, trainer: Trainer, module: ContrastiveModule, *, thorough: bool) -> dict[str, float]:
        """Run every evaluator, write history and loggers, return the metrics by logged name."""
        metrics: dict[str, float] = {}
        lines = []
        step = trainer.global_step
        for evaluator in self.evaluators:
            if not thorough and getattr(evaluator, "final_only", False):
                continue
            precision = trainer.precision_plugin.forward_context()
            result = run_evaluator(evaluator, module, self.tokenizer, precision, thorough=thorough)
            self.results[file_stem(result.name, result.task)] = result
            metrics |= named_metrics(result)
            lines.append(
                {
                    "set": result.name,
                    "task": result.task,
                    "epoch": -(-step // self.steps_per_epoch),
                    "step": step,
                    "samples_seen": step * trainer.datamodule.batch_size,  # type: ignore[attr-defined]
                    "subset": result.details["subset"],
                    "metrics": result.metrics,
                    "protocol_hash": result.protocol_hash,
                    "seconds": result.seconds,
                }
            )
        if thorough:
            self.evaluated_step = step
        if trainer.is_global_zero and lines:
            self._keep_history(lambda earlier: earlier != step)
            self.history.parent.mkdir(parents=True, exist_ok=True)
            with self.history.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=step)
            self._show(trainer.loggers, module.config["name"], step)
        return metrics

    def _show(self, loggers: Sequence[Any], model: str, step: int) -> None:
        """The panel of the first set whose images have one label each, and the lines that accuracy is held against."""
        latest = [(e.dataset, self.results.get(file_stem(e.name, e.task))) for e in self.evaluators]
        ranked = [(dataset, result) for dataset, result in latest if result and "rank" in result.samples]
        if ranked and self.panel_images:
            self.panel.show(*ranked[0], loggers, step)
        log_reference_lines(loggers, [result for _, result in ranked], model, step)

    def _keep_history(self, keep: Callable[[int], bool]) -> None:
        """Forget the evaluations of the steps that ``keep`` refuses."""
        if self.history.is_file():
            lines = self.history.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and keep(json.loads(line)["step"])]
            if kept != lines:  # the last may also have been cut by a kill
                with whole_file(self.history) as file:
                    file.write("".join(kept))


class LogSteps(Callback):
    """Every ``every_n_steps`` hands loggers what the step logged under ``train/``, with images/s, tokens/s (without
    padding; evaluation time does not count) and the learning rate.

    It does so before a checkpoint of the same step is written, so that a run killed at any moment loses no row.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
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
            rates = {
                "train/images_per_second": self.images / seconds,
                "train/tokens_per_second": int(self.tokens) / seconds,
                "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
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
    """At the end of each epoch and of the run hands loggers what all ranks have read so far (``data/…``), prints it when a
    row was unusable, and stops when too many were, however few were read. It belongs to the epoch's last step, so that a
    checkpoint of that step already knows of it."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % int(trainer.num_training_batches) and trainer.global_step != trainer.max_steps:
            return
        counts = trainer.datamodule.all_counts()  # type: ignore[attr-defined]
        if trainer.is_global_zero and counts.bad:
            print(f"step {trainer.global_step}: {counts}", file=sys.stderr)
        for logger in trainer.loggers:
            logger.log_metrics(counts.metrics(), step=trainer.global_step)
        counts.check(trainer.datamodule.max_bad_fraction, fewest=1)  # type: ignore[attr-defined]


class GradientNorm(Callback):
    """Logs the norm of the whole gradient before clipping."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        pl_module.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients), logger=False)


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


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar with loss, scale, images/s and the first zero-shot set's latest top-1."""

    SHOWN = {"train/loss": "loss", "train/logit_scale": "scale", "train/images_per_second": "img/s"}

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate, theme=RichProgressBarTheme(metrics_format=".4g"))

    @property
    def total_train_batches(self) -> int:
        """Batches of the epoch that begins now."""
        return self._batches_of_epoch(self.trainer.global_step)

    def _batches_of_epoch(self, step: int) -> int:
        """From the epoch's own first step on, whichever of its steps this is."""
        each = int(self.trainer.num_training_batches)
        steps: int = self.trainer.lightning_module.total_steps  # type: ignore[assignment]
        return min(each, steps - step // each * each)

    def _initialize_train_progress_bar_id(self) -> None:
        """A resumed run goes on in the middle of an epoch, of which a step is done by now."""
        total = self._batches_of_epoch(self.trainer.global_step - 1)
        self.train_progress_bar_id = self._add_task(total, self._get_train_description(self.trainer.current_epoch))

    def _get_train_description(self, current_epoch: int) -> str:
        steps: int = self.trainer.lightning_module.total_steps  # type: ignore[assignment]
        return f"Epoch {current_epoch + 1} of {-(-steps // max(1, int(self.trainer.num_training_batches)))}"

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        known = trainer.callback_metrics
        shown: dict[str, Any] = {short: float(known[key]) for key, short in self.SHOWN.items() if key in known}
        accuracies = [float(value) for key, value in known.items() if key.endswith("/acc1")]
        return shown | ({"zero-shot": accuracies[0]} if accuracies else {})
