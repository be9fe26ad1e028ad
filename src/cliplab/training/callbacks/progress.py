"""Show the progress of a run: as a bar on a terminal, as lines elsewhere."""

import sys
import time
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.console import Console

from cliplab.evaluation.kind import headlines
from cliplab.evaluation.result import EvaluationResult
from cliplab.text import duration

SHOWN = {"train/loss": "loss", "train/logit_scale": "scale", "train/images_per_second": "img/s"}


def shown_figures(known: dict[str, Any]) -> dict[str, float]:
    """The figures to show, by their short names."""
    return {short: float(known[key]) for key, short in SHOWN.items() if key in known}


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar with loss, scale, images/s and the first zero-shot set's latest top-1."""

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate, theme=RichProgressBarTheme(metrics_format=".4g"))

    @property
    def total_train_batches(self) -> int:
        """Batches of the epoch that begins now."""
        return self._batches_of_epoch(self.trainer.global_step)

    def _batches_of_epoch(self, step: int) -> int:
        """The number of steps in the epoch that ``step`` belongs to; the last epoch may be shorter."""
        each = int(self.trainer.num_training_batches)
        steps: int = self.trainer.lightning_module.total_steps  # type: ignore[assignment]
        return min(each, steps - step // each * each)

    def _initialize_train_progress_bar_id(self) -> None:
        """Start the bar of the epoch. A resumed run may continue within an epoch; one step of it is done by now."""
        total = self._batches_of_epoch(self.trainer.global_step - 1)
        self.train_progress_bar_id = self._add_task(total, self._get_train_description(self.trainer.current_epoch))

    def _get_train_description(self, current_epoch: int) -> str:
        steps: int = self.trainer.lightning_module.total_steps  # type: ignore[assignment]
        return f"Epoch {current_epoch + 1} of {-(-steps // max(1, int(self.trainer.num_training_batches)))}"

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        known = trainer.callback_metrics
        accuracies = [float(value) for key, value in known.items() if key.rpartition("/")[2] in headlines()]
        return shown_figures(known) | ({"zero-shot": accuracies[0]} if accuracies else {})


class ProgressLines(LightningProgressBar):
    """Prints a line for each logged step and each evaluated set, flushed at once, for a file, a pipe or a scheduler's log.
    The time left is estimated from the time since this start of the run, evaluations included."""

    def __init__(self, every_n_steps: int) -> None:
        super().__init__()
        self.every_n_steps = every_n_steps
        self.shown = True

    def disable(self) -> None:
        """Lightning calls this on every rank but the first."""
        self.shown = False

    def enable(self) -> None:
        self.shown = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self.shown:
            print(*args, flush=True)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.first, self.began = trainer.global_step, time.monotonic()
        if self.first:
            self.print(f"continuing after step {self.first:,}")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
        step, total = trainer.global_step, pl_module.total_steps
        if step % self.every_n_steps and step != total:
            return
        each = max(1, int(trainer.num_training_batches))
        figures = [f"{name} {value:.4g}" for name, value in shown_figures(trainer.callback_metrics).items()]
        left = (time.monotonic() - self.began) / (step - self.first) * (total - step)
        where = f"step {step:,}/{total:,}  epoch {-(-step // each)}/{-(-total // each)}"
        self.print("  ".join([where, *figures, f"{duration(left)} left" if step < total else "the last"]))

    def evaluated(self, result: EvaluationResult, step: int) -> None:
        """Called when a set has been evaluated."""
        part = f" (a part, {result.details['subset']})" if result.details.get("subset") else ""
        seconds = f"{sum(result.seconds.values()):.1f} s"
        self.print(f"after step {step:,}: {result.stem}{part}: {result.kind.say(result.metrics)}  {seconds}")


def progress_display(refresh_rate: int, every_n_steps: int) -> LightningProgressBar:
    """A bar that moves every ``refresh_rate`` steps on a terminal or in a notebook, else a line every ``every_n_steps``."""
    console = Console(file=sys.stdout)
    if console.is_terminal or console.is_jupyter:
        return ProgressBar(refresh_rate)
    return ProgressLines(every_n_steps)
