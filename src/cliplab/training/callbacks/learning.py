"""Say at the end of a run that a contrastive loss never left that of guessing."""

import math
import sys
from collections import deque
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cliplab.objectives.contrastive import SigmoidLoss
from cliplab.training.callbacks.batches import CONTRASTIVE
from cliplab.training.callbacks.finite import loss_of

LEAST_STEPS = 20  # of a run that is judged
LAST_STEPS = 10  # whose mean loss is judged
NEAR = 0.99  # of the loss of guessing


def loss_of_guessing(size: int, *, sigmoid: bool) -> float:
    """The least loss, for a batch of ``size`` pairs, of a model that gives all pictures and all captions the same embedding:
    ln N of a softmax over N pairs. A sigmoid's best constant answer is 1/N, which costs ln N + (N - 1) ln(N / (N - 1))."""
    return math.log(size) + ((size - 1) * math.log(size / (size - 1)) if sigmoid else 0.0)


class WatchLearning(Callback):
    """At the end of a run, prints that a contrastive loss is still that of guessing. The manifest keeps the sentence."""

    def __init__(self) -> None:
        self.losses: deque[Tensor] = deque(maxlen=LAST_STEPS)
        self.problem = ""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if isinstance(pl_module.objective, CONTRASTIVE):
            self.losses.append(loss_of(outputs).detach())

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        size = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        if not self.losses or trainer.global_step < LEAST_STEPS or size < 2:
            return
        loss = float(torch.stack([loss.float() for loss in self.losses]).mean())
        guessing = loss_of_guessing(size, sigmoid=isinstance(pl_module.objective, SigmoidLoss))
        if loss < NEAR * guessing:
            return
        rate, schedule = pl_module.config["optimizer"]["lr"], pl_module.config["scheduler"]
        self.problem = (
            f"the model has not learned: after {trainer.global_step:,} steps its loss is {loss:.4g}, and guessing among "
            f"{size} pairs gives {guessing:.4g}. See by debug=data whether pictures and captions belong together, then try "
            f"another optimizer.lr (now {rate:g}) and a longer scheduler.warmup_steps (now "
            f"{schedule.get('warmup_steps', 0)})"
        )
        if trainer.is_global_zero:
            print(self.problem, file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": [float(loss) for loss in self.losses]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses.extend(torch.tensor(loss) for loss in state_dict["losses"])

    def facts(self) -> dict[str, Any]:
        """An entry for the manifest."""
        return {"not_learned": self.problem} if self.problem else {}
