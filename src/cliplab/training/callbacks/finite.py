"""Loss, gradient and weights are numbers, or the run says so: ``trainer.on_nan``."""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

MOST_IN_A_ROW = 10  # steps left out one after the other, after which a run is given up
NEVER = 2**62  # no step
MOST_TOLD = 10  # of the first steps left out each is printed, and named in the manifest


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
        if not trainer.gradient_clip_val:
            tries.append("trainer.gradient_clip_val=1")
        if str(trainer.precision) not in ("32-true", "64-true"):
            tries.append(f"trainer.precision=32-true (now {trainer.precision})")
        super().__init__(
            f"{what} at step {step} (epoch {_epoch(step, trainer)}); checkpoints are of steps before it. "
            f"Try {', '.join(tries)}; trainer.on_nan=skip leaves out such steps, where they are few"
        )


def _epoch(step: int, trainer: Trainer) -> int:
    return -(-step // max(1, int(trainer.num_training_batches)))


def _loss_of(outputs: Any) -> Tensor:
    """What ``training_step`` returned, as Lightning hands it to callbacks."""
    return outputs["loss"] if isinstance(outputs, dict) else outputs


def _floating(module: nn.Module) -> Iterator[Tensor]:
    """Weights and buffers, as far as they are floating point."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            yield tensor


def answers_at_once(device: torch.device) -> bool:
    """Whether a value of the device can be read without waiting for what else was asked of it."""
    return device.type == "cpu"


def all_finite(tensors: Iterator[Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity; waits for the device once."""
    checks = [tensor.detach().isfinite().all() for tensor in tensors]
    return not checks or bool(torch.stack(checks).all())


class WatchWeights(Callback):
    """Lets no checkpoint be written of weights that hold NaN or infinity, on whichever rank. Raises NotFiniteError."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        broken = not all_finite(_floating(pl_module))
        if trainer.strategy.reduce_boolean_decision(broken, all=False):
            raise NotFiniteError("the weights are no longer finite", trainer.global_step, trainer)

    def check(self, trainer: Trainer) -> None:
        """Asked before an evaluation, by every rank."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {}


class StopOnNaN(WatchWeights):
    """Raises NotFiniteError after the first step whose loss is NaN or infinite, on all ranks alike.

    A CPU tells each step. A GPU would have to be waited for: there the first such step is noted on the device, and asked
    for every ``every_n_steps`` steps, at the last step of an epoch, and before an evaluation or a checkpoint.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.first: Tensor | None = None  # the first such step of this rank, or NEVER

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss, step = _loss_of(outputs).detach(), trainer.global_step
        if self.first is None:
            self.first = torch.full((), NEVER, dtype=torch.int64, device=loss.device)
        self.first = torch.minimum(self.first, torch.where(loss.isfinite(), NEVER, step))
        ends = batch_idx + 1 == trainer.num_training_batches or step == trainer.max_steps
        if ends or step % self.every_n_steps == 0 or answers_at_once(loss.device):
            self.check(trainer)

    def check(self, trainer: Trainer) -> None:
        """Ask the device; every rank must."""
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
    """Leaves out a step whose loss or gradient is NaN or infinite: no optimizer update is made for it, on any rank, and
    buffers (batch norm) are put back. Rate, order of samples and draws go on as if it had been made.

    Such steps are counted, also over a resume, and printed. After ``MOST_IN_A_ROW`` one after the other it raises
    NotFiniteError. Each step waits for the device once. With ``precision=16-mixed`` an infinite gradient is what its
    scaling expects now and then, so that only the loss counts.
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
        fine = self.loss.isfinite()
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            fine = fine & torch.nn.utils.get_total_norm(gradients).isfinite()
        if not trainer.strategy.reduce_boolean_decision(not bool(fine), all=False):
            self.in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)  # what has no gradient is not updated
        with torch.no_grad():
            for buffer, before in zip(pl_module.buffers(), self.buffers, strict=True):
                buffer.copy_(before)
        self._note(trainer.global_step + 1, trainer)

    def _note(self, step: int, trainer: Trainer) -> None:
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if len(self.steps) < MOST_TOLD:
            self.steps.append(step)
        if trainer.is_global_zero and self.skipped <= MOST_TOLD:
            last = ", and so are those to come, without a word" if self.skipped == MOST_TOLD else ""
            print(f"step {step}: loss or gradient is not finite; the step is left out{last}", file=sys.stderr)
        if self.in_a_row >= MOST_IN_A_ROW:
            raise NotFiniteError(
                f"the loss or the gradient is not finite in {MOST_IN_A_ROW} steps one after the other, the last",
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
        """What the manifest says of it: how many steps were left out, and the first of them."""
        return {"skipped_steps": self.skipped, "first_skipped_steps": self.steps} if self.skipped else {}


def watch(on_nan: str, every_n_steps: int) -> WatchWeights:
    """The callback for ``trainer.on_nan``, ``stop`` or ``skip``; it must be the first of all callbacks."""
    return {"stop": lambda: StopOnNaN(every_n_steps), "skip": SkipNaN}[on_nan]()
