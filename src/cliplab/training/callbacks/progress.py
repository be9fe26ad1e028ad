"""What is seen while a run trains."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

from cliplab.evaluation.kind import headlines


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
        accuracies = [float(value) for key, value in known.items() if key.rpartition("/")[2] in headlines()]
        return shown | ({"zero-shot": accuracies[0]} if accuracies else {})
