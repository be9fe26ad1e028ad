"""debug=overfit: whether the loss of a few samples, seen again and again, got near zero; or why it did not."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from cliplab.distributed import gather_objects
from cliplab.evaluation.batches import picture_hash
from cliplab.rules import Share
from cliplab.training.callbacks.batches import compared, what_hinders_batch

FALLS = 0.02  # of the loss over the last quarter: it is still on its way


def why_not(losses: Sequence[float], *, rate: float, trained: int, hinders: str, at_limit: bool) -> str:
    """The likeliest reason that a loss stayed high, with what to change; ``losses`` are those of all steps."""
    if not all(map(math.isfinite, losses)):
        return f"the loss became no number; lower optimizer.lr={rate:g}"
    if trained == 0:
        return "no parameter trains; look at locking="
    if hinders:
        return hinders
    quarter = max(1, len(losses) // 4)
    before, last = _mean(losses[-2 * quarter : -quarter]), _mean(losses[-quarter:])
    if last < before * (1 - FALLS):
        return "it is still falling; give it more epochs: trainer.max_epochs=300"
    if last > losses[0] * 0.98:
        return (
            f"it hardly fell at all; try a larger optimizer.lr={10 * rate:g} and a smaller one, optimizer.lr={rate / 10:g}, "
            "and look at debug=data: do the pictures and captions belong together?"
        )
    if max(losses[-quarter:]) > 1.5 * last:
        return f"it jumps up and down; lower optimizer.lr={rate:g}"
    if at_limit:
        return "the logit scale is at its limit; raise model.max_logit_scale"
    return (
        "it came to rest above zero; switch off what makes samples differ from step to step (augmentation, dropout), "
        "and raise the size of the smaller tower"
    )


def pictures_of(batch: Any) -> list[str]:
    """A hash of each picture of a batch of all ranks; every rank must call it."""
    return list(chain.from_iterable(gather_objects([picture_hash(picture) for picture in batch.images.cpu()])))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / max(1, len(values))


class TellOverfit(Callback):
    """Prints at the end whether the loss fell to ``near`` of where it began."""

    def __init__(self, near: Share = 0.05) -> None:
        self.near, self.losses, self.hinders, self.floor = near, list[float](), "", 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.global_step:
            self.hinders = what_hinders_batch(pl_module, batch)
            self.floor = pl_module.objective.least_loss(pictures_of(batch), *compared(batch))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def state_dict(self) -> dict[str, Any]:
        """A run that goes on is judged by all of its steps."""
        return {"losses": self.losses, "hinders": self.hinders, "floor": self.floor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.hinders = list(state_dict["losses"]), state_dict["hinders"]
        self.floor = state_dict["floor"]

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.losses and trainer.is_global_zero:
            print(self.verdict(trainer, pl_module), flush=True)

    def verdict(self, trainer: Trainer, pl_module: Any) -> str:
        first, last = self.losses[0], self.losses[-1]
        told = f"overfit: the loss went from {first:.4g} to {last:.4g} in {len(self.losses)} steps"
        learnable = not self.hinders
        zero = f"{self.floor:.4g}, the least that equal samples allow" if self.floor and learnable else "zero"
        if learnable and math.isfinite(last) and last - self.floor <= self.near * (first - self.floor):
            return f"{told}, near {zero}: the model can learn these samples"
        model = pl_module.model
        reason = why_not(
            self.losses,
            rate=float(pl_module.config["optimizer"]["lr"]),
            trained=sum(p.numel() for p in pl_module.parameters() if p.requires_grad),
            hinders=self.hinders,
            at_limit=bool(float(model.logit_scale.detach().exp()) > 0.99 * math.exp(model.max_log_scale)),
        )
        return f"{told}, not near {zero}: {reason}"
