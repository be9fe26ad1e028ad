"""Watch for NaN and infinity in loss, gradient and weights. ``trainer.on_nan`` says what happens then."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

from cliplab.distributed import local_part, total_norm

MOST_IN_A_ROW = 10  # the run stops after so many skipped steps in a row
NEVER = 2**62  # later than any step
MOST_REPORTED = 10  # so many skipped steps are printed, and listed in the manifest


class NotFiniteError(RuntimeError):
    """The loss, the gradient or the weights of ``step`` hold NaN or infinity."""

    def __init__(self, what: str, step: int, trainer: Trainer) -> None:
        self.step = step
        module: Any = trainer.lightning_module
        optimizer, schedule = module.config["optimizer"], module.config["scheduler"]
        tries = [
            f"a lower optimizer.lr (now {optimizer['lr']:g})",
            f"a longer warm-up, scheduler.warmup_steps (now {schedule.get('warmup_steps', 0)})",
        ]
        if optimizer.get("eps") == 0:
            tries.append("an optimizer.eps above 0")
        if not trainer.gradient_clip_val:
            tries.append("trainer.gradient_clip_val=1")
        if str(trainer.precision) not in ("32-true", "64-true"):
            tries.append(f"trainer.precision=32-true (now {trainer.precision})")
        skips = any(isinstance(callback, SkipNaN) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        super().__init__(
            f"{what} at step {step} (epoch {_epoch(step, trainer)}); {_what_is_saved(trainer)}. "
            f"Try {', '.join(tries)}{'' if skips else '; trainer.on_nan=skip leaves out such steps, if they are few'}"
        )


def _what_is_saved(trainer: Trainer) -> str:
    folders = [keeper.dirpath for keeper in trainer.checkpoint_callbacks if isinstance(keeper, ModelCheckpoint)]
    saved = any(next(Path(folder).glob("*.ckpt"), None) for folder in folders if folder is not None)
    return "checkpoints are from earlier steps" if saved else "no checkpoint was saved before it"


def _epoch(step: int, trainer: Trainer) -> int:
    return -(-step // max(1, int(trainer.num_training_batches)))


def loss_of(outputs: Any) -> Tensor:
    """The loss that ``training_step`` returned, from what Lightning passes to callbacks."""
    return outputs["loss"] if isinstance(outputs, dict) else outputs


def _floating(module: nn.Module) -> Iterator[Tensor]:
    """Floating-point weights and buffers."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            yield tensor


def answers_at_once(device: torch.device) -> bool:
    """Whether a value on the device can be read without waiting for other work."""
    return device.type == "cpu"


def all_finite(tensors: Iterator[Tensor]) -> bool:
    """Whether every tensor is free of NaN and infinity. Waits for the device once."""
    checks = [local_part(tensor.detach()).isfinite().all() for tensor in tensors]
    return not checks or bool(torch.stack(checks).all())


class WatchWeights(Callback):
    """Raises NotFiniteError instead of saving weights that hold NaN or infinity on any rank."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        broken = not all_finite(_floating(pl_module))
        if trainer.strategy.reduce_boolean_decision(broken, all=False):
            raise NotFiniteError("the weights are no longer finite", trainer.global_step, trainer)

    def check(self, trainer: Trainer) -> None:
        """Called by every rank before an evaluation."""

    def facts(self) -> dict[str, Any]:
        """Entries for the manifest."""
        return {}


class StopOnNaN(WatchWeights):
    """Raises NotFiniteError after the first step whose loss is NaN or infinite, on all ranks alike.

    On a CPU each step is checked. On a GPU a check waits for the device, so the device notes the first such step. The note
    is read every ``every_n_steps`` steps, at the last step of an epoch, and before an evaluation or a checkpoint.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.first: Tensor | None = None  # the first such step of this rank, or NEVER

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss, step = loss_of(outputs).detach(), trainer.global_step
        if self.first is None:
            self.first = torch.full((), NEVER, dtype=torch.int64, device=loss.device)
        self.first = torch.minimum(self.first, torch.where(loss.isfinite(), NEVER, step))
        ends = batch_idx + 1 == trainer.num_training_batches or step == trainer.max_steps
        if ends or step % self.every_n_steps == 0 or answers_at_once(loss.device):
            self.check(trainer)

    def check(self, trainer: Trainer) -> None:
        """Read the device's note. Every rank must call it."""
        if self.first is None:
            return
        known = trainer.strategy.reduce(self.first, reduce_op="min")
        assert isinstance(known, Tensor)
        if int(known) < NEVER:
            raise NotFiniteError("the loss is not finite", int(known), trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.check(trainer)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)


class SkipNaN(WatchWeights):
    """Skips the optimizer update of a step whose loss or gradient is NaN or infinite, on all ranks, and restores buffers
    (batch norm). Learning rate, order of samples and random draws continue as if the update had been made.

    Skipped steps are printed and counted; the count survives a resume. ``MOST_IN_A_ROW`` of them in a row raise
    NotFiniteError. Each step waits for the device once. With ``precision=16-mixed`` only the loss counts, since its
    scaling makes gradients infinite now and then.
    """

    def __init__(self) -> None:
        self.skipped, self.in_a_row, self.steps = 0, 0, list[int]()
        self.loss: Tensor | None = None
        self.buffers: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.buffers = [buffer.detach().clone() for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        self.loss = loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        assert self.loss is not None
        finite = self.loss.isfinite()
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            finite = finite & total_norm(gradients).isfinite()
        if not trainer.strategy.reduce_boolean_decision(not bool(finite), all=False):
            self.in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)  # parameters without a gradient are not updated
        with torch.no_grad():
            for buffer, before in zip(pl_module.buffers(), self.buffers, strict=True):
                buffer.copy_(before)
        self._record(trainer.global_step + 1, trainer)

    def _record(self, step: int, trainer: Trainer) -> None:
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if len(self.steps) < MOST_REPORTED:
            self.steps.append(step)
        if trainer.is_global_zero and self.skipped <= MOST_REPORTED:
            last = "; further ones are counted but not printed" if self.skipped == MOST_REPORTED else ""
            print(f"step {step}: loss or gradient is not finite; the step is left out{last}", file=sys.stderr)
        if self.in_a_row >= MOST_IN_A_ROW:
            raise NotFiniteError(
                f"the loss or the gradient is not finite in {MOST_IN_A_ROW} steps in a row, the last",
                step,
                trainer,
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.log("train/skipped_steps", float(self.skipped), logger=False)

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row, self.steps = (state_dict[key] for key in ("skipped", "in_a_row", "steps"))

    def facts(self) -> dict[str, Any]:
        """How many steps were skipped, and the first of them."""
        return {"skipped_steps": self.skipped, "first_skipped_steps": self.steps} if self.skipped else {}


def watch(on_nan: str, every_n_steps: int) -> WatchWeights:
    """The callback for ``trainer.on_nan``, ``stop`` or ``skip``. It must be the first of all callbacks."""
    assert on_nan in ("stop", "skip")
    return SkipNaN() if on_nan == "skip" else StopOnNaN(every_n_steps)
