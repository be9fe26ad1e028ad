"""A model of one weight and a trainer of a few steps, so that callbacks are tested in milliseconds."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from cliplab.training.checkpoint_io import AtomicCheckpointIO

warnings.filterwarnings("ignore", message=".*does not have many workers.*")


class Toy(lightning.LightningModule):
    """``loss = mean((weight * batch - 1)^2)``; a buffer counts what it saw, as batch norm does."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self.register_buffer("seen", torch.zeros(()))
        self.config = {"optimizer": {"lr": 0.1}, "scheduler": {"warmup_steps": 3}} | (config or {})
        self.total_steps = -1

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen += batch.mean()
        loss = (self.weight * batch - 1).square().mean()
        self.log("train/loss", loss, logger=False)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([self.weight], lr=0.1)


def checkpoints(folder: Path) -> ModelCheckpoint:
    """last.ckpt after each step."""
    return ModelCheckpoint(dirpath=folder, filename="last", every_n_train_steps=1, enable_version_counter=False)


def fit(
    batches: Sequence[float], callbacks: Sequence[Callback], epochs: int = 1, ckpt: Path | None = None, **settings: Any
) -> tuple[lightning.Trainer, Toy]:
    """Train a toy on one number a step."""
    toy = Toy()
    toy.total_steps = epochs * len(batches)
    data = DataLoader([torch.tensor([x]) for x in batches], batch_size=None)
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        max_steps=toy.total_steps,
        max_epochs=-1,
        plugins=[AtomicCheckpointIO()],
        logger=settings.pop("logger", False),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **settings,
    )
    trainer.fit(toy, data, ckpt_path=str(ckpt) if ckpt else None, weights_only=True if ckpt else None)
    return trainer, toy
