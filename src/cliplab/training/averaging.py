"""callbacks=ema: a moving average of the weights, beside the weights themselves.

This file says which weights count. The weights that train ("raw") are those of every figure, file and verb. The average is
asked for by name: its figures are those of ``<set>_ema``, and later verbs take it with ``weights=ema``.
"""

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor

from cliplab.rules import Count, Natural, Positive, Share

AVERAGE = "ema_state_dict"  # of a checkpoint; checkpoints/run_checkpoint.py reads it
SUFFIX = "_ema"  # of the sets whose figures are the average's
UPDATES = "updates"


def decay_at(update: int, decay: float, warmup_power: float | None) -> float:
    """The decay of the update after ``update`` earlier ones: ``decay``, or less during the warm-up, where it is
    ``1 - (1 + update) ** -warmup_power``. Source: timm, ModelEmaV3."""
    return decay if warmup_power is None else min(decay, 1 - (1 + update) ** -warmup_power)


class AverageWeights(EMAWeightAveraging):
    """Lightning's EMAWeightAveraging: ``average = decay * average + (1 - decay) * weights``.

    The first update, after step ``update_starting_at_step`` at the earliest, takes the weights as they are; further ones
    follow after each step that is a multiple of ``update_every_n_steps``. With ``warmup_power`` the decay rises to
    ``decay``, so that the first weights are soon forgotten (see ``decay_at``). Buffers of batch norm are averaged like
    weights; whole numbers are copied.

    Unlike Lightning's, it leaves the weights that train in their place, during evaluations, in a checkpoint and at the end;
    ``weights_to_evaluate`` gives the average beside them. A checkpoint holds it under ``ema_state_dict``.
    """

    def __init__(
        self,
        decay: Share = 0.9999,
        update_every_n_steps: Count = 1,
        update_starting_at_step: Natural = 0,
        warmup_power: Positive | None = 0.75,
    ) -> None:
        super().__init__(decay=decay, update_every_n_steps=update_every_n_steps)
        self.start, self.decay, self.warmup_power = max(1, update_starting_at_step), decay, warmup_power
        self.updates = 0
        del self._kwargs["avg_fn"]
        self._kwargs["multi_avg_fn"] = self._move

    @torch.no_grad()
    def _move(self, averages: list[Tensor], weights: list[Tensor], _: Any) -> None:
        share = 1 - decay_at(self.updates, self.decay, self.warmup_power)
        for average, weight in zip(averages, weights, strict=True):
            if average.is_floating_point():
                average.lerp_(weight, share)  # equal values stay equal to the bit
            else:
                average.copy_(weight)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        step = 0 if step_idx is None else step_idx + 1
        return step >= self.start and (step % self.update_every_n_steps == 0)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Average where the weights are. The count stays on the CPU, since reading it must not wait for a GPU."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)
        self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:  # type: ignore[override]
        before = self._latest_update_step
        super().on_train_batch_end(trainer, pl_module, *args)
        if self._latest_update_step != before:
            self.updates += 1
            self.module.model.text_fixed = pl_module.model.text_fixed

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Nothing: updates go by steps."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Nothing: the weights that were trained stay in their place."""

    @property
    def module(self) -> Any:
        """The training module with the averaged weights."""
        assert self._average_model is not None
        return self._average_model.module

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), UPDATES: self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.updates = state_dict[UPDATES]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Save the average beside the weights, once it has begun."""
        if self.updates:
            checkpoint[AVERAGE] = self.module.state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Go on with the saved average. A checkpoint without one lets it begin at the next update."""
        if AVERAGE in checkpoint:
            assert self._average_model is not None
            self.module.load_state_dict(checkpoint[AVERAGE])
            self._average_model.n_averaged.fill_(1)  # not the first


def weights_to_evaluate(trainer: Trainer, module: Any) -> dict[str, Any]:
    """The modules to evaluate, by what is added to the names of sets: the one that trains, and its average once there is
    one."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    averages = [callback for callback in callbacks if isinstance(callback, AverageWeights) and callback.updates]
    return {"": module} | {suffix: average.module for suffix, average in zip([SUFFIX], averages, strict=False)}
