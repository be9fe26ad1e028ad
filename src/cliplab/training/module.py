"""The LightningModule: two forward calls, one loss, one optimizer, one clamp."""

from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from cliplab.models.clip import CLIP
from cliplab.optim.locking import Locking, TowerLock
from cliplab.optim.param_groups import param_groups


class ContrastiveModule(lightning.LightningModule):
    """Trains a CLIP model with ``loss`` over the batches of the data module.

    ``optimizer`` is called with parameter groups, ``schedule`` with (step, total_steps=…); ``total_steps`` counts
    optimizer steps. ``locking`` holds a TowerLock for each tower. ``config`` (plain dicts and lists) travels in the
    checkpoint, which then says how to rebuild the model.
    """

    model: CLIP

    def __init__(
        self,
        *,
        model: CLIP,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., float],
        weight_decay: float,
        total_steps: int,
        config: dict[str, Any],
        locking: dict[str, TowerLock] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.make_optimizer, self.schedule = optimizer, schedule
        self.weight_decay, self.total_steps, self.config = weight_decay, total_steps, config
        self.locking = Locking(model, **(locking or {"image_encoder": TowerLock(), "text_encoder": TowerLock()}))
        self.locking.apply(0)

    def train(self, mode: bool = True) -> "ContrastiveModule":
        """As ever, but frozen parts stay in eval mode."""
        super().train(mode)
        self.locking.rest()
        return self

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        output = self.model(batch.images, batch.tokens)
        with torch.autocast(self.device.type, enabled=False):
            result = self.loss(output, batch.groups)
        self.log_dict(
            {
                "train/loss": result.loss,
                "train/image_accuracy": result.image_accuracy,
                "train/text_accuracy": result.text_accuracy,
                "train/logit_scale": output.logit_scale,
            },
            logger=False,  # LogSteps hands them on
        )
        return result.loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Unfreeze what is due. What the model draws (dropout) depends on seed, step and rank alone: nothing of it has to be
        saved."""
        strategy = self.trainer.strategy
        if self.locking.apply(self.global_step) and isinstance(strategy, DDPStrategy):
            strategy.model = strategy._setup_model(self)  # it exchanges gradients of what trained when it was wrapped
        part = batch_idx % self.trainer.accumulate_grad_batches  # of this step
        words = np.random.SeedSequence([self.config["seed"], part, self.global_step, self.global_rank])
        torch.manual_seed(int(words.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.model.clamp_logit_scale()

    def configure_optimizers(self) -> Any:
        if self.locking.changes_anything and "FSDP" in type(self.trainer.strategy).__name__:
            raise ValueError("locking: sharded parameters cannot be told apart; use trainer=ddp, or locking=none")
        groups = param_groups(self.model, self.weight_decay, self.locking.scales(), self.locking.later())
        optimizer = self.make_optimizer(groups)
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)  # the schedule multiplies each group's own rate
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.schedule(min(step, self.total_steps), total_steps=self.total_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["cliplab_config"] = self.config
        tokenizer = getattr(getattr(self.trainer, "datamodule", None), "tokenizer", None)
        definition = getattr(tokenizer, "definition", None)
        if definition is not None:
            checkpoint["cliplab_tokenizer"] = definition
