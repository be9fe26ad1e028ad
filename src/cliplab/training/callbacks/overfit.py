"""debug=overfit: whether the loss of a few samples, seen again and again, got near zero; or why it did not."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from cliplab.distributed import gather_objects
from cliplab.objectives.contrastive import GroupedClipLoss
from cliplab.rules import Share
from cliplab.training.callbacks.batches import what_hinders_batch

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


def least_loss(groups: Sequence[int]) -> float:
    """The least cross-entropy of a batch whose samples of one group are joint positives: the entropy of its targets."""
    sizes = Counter(groups)
    return _mean([math.log(sizes[group]) for group in groups])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / max(1, len(values))


class TellOverfit(Callback):
    """Prints at the end whether the loss fell to ``near`` of where it began."""

    def __init__(self, near: Share = 0.05) -> None:
        self.near, self.losses, self.hinders, self.floor = near, list[float](), "", 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.global_step:
            self.hinders = what_hinders_batch(pl_module, batch)
            if isinstance(pl_module.objective, GroupedClipLoss):
                self.floor = least_loss([group for part in gather_objects(batch.groups.tolist()) for group in part])

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
        zero = f"the {self.floor:.4g} that joint positives leave at best" if self.floor else "zero"
        if math.isfinite(last) and last - self.floor <= self.near * (first - self.floor):
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
