"""A model of one weight and a trainer of a few steps, so that callbacks are tested in milliseconds."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from cliplab.evaluation.kinds.zero_shot import KIND
from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.result import EvaluationResult
from cliplab.objectives.objective import Objective
from cliplab.training.checkpoint_io import AtomicCheckpointIO

warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`.*")


class ToyTowers(torch.nn.Module):
    text_fixed, logit_scale, logit_bias = False, torch.zeros(()), None

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self.register_buffer("seen", torch.zeros(()))  # what it saw, as batch norm does

    def encode_image(self, images: Tensor) -> Tensor:
        return images * self.weight


class Toy(lightning.LightningModule):
    """``loss = mean((weight * batch - 1)^2)``."""

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        self.model, self.objective, self.total_steps = ToyTowers(), Objective(), total_steps
        self.config = {"name": "toy", "optimizer": {"lr": 0.1}, "scheduler": {"warmup_steps": 3}}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.model.seen += batch.mean()
        loss = (self.model.encode_image(batch) - 1).square().mean()
        self.log("train/loss", loss, logger=False)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([self.model.weight], lr=0.1)


class ToyLoader:
    """Goes on where it stopped, as cliplab's own loader does."""

    def __init__(self, batches: Sequence[float]) -> None:
        self.batches, self.position = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        if self.position >= len(self.batches):
            self.position = 0
        while self.position < len(self.batches):
            self.position += 1
            yield torch.tensor([self.batches[self.position - 1]])

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"] % len(self.batches)


class ToyData(lightning.LightningDataModule):
    batch_size = 1

    def __init__(self, batches: Sequence[float]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> ToyLoader:
        return ToyLoader(self.batches)


class ToyImages:
    dataset, batch_size = None, 256

    def __len__(self) -> int:
        return 50


class ToyEvaluator:
    """Looks at three batches; ``looking`` is called at each of them."""

    kind, final_only = KIND, False

    def __init__(self, name: str = "toy", looking: Callable[[], None] = lambda: None) -> None:
        self.name, self.looking = name, looking
        self.images: Any = ToyImages()
        self.asked: list[tuple[bool, int | None]] = []

    def evaluate(self, model: ZeroShotModel, *, thorough: bool = True, most: int | None = None) -> EvaluationResult:
        self.asked.append((thorough, most))
        values = []
        for number in range(3):
            self.looking()
            values.append(float(model.encoders.encode_image(torch.tensor(number))))
        metrics = {"acc1": 1 / (1 + abs(sum(values) - 3)), "acc5": 1.0}
        return EvaluationResult(self.name, self.kind, metrics, "hash", {"subset": None, "warnings": []})


def checkpoints(folder: Path, **settings: Any) -> ModelCheckpoint:
    """last.ckpt after each step, or as ``settings`` say."""
    settings = settings or {"every_n_train_steps": 1}
    return ModelCheckpoint(dirpath=folder, **{"filename": "last", "enable_version_counter": False} | settings)


def fit(
    batches: Sequence[float], callbacks: Sequence[Callback], epochs: int = 1, ckpt: Path | None = None, **settings: Any
) -> tuple[lightning.Trainer, Toy]:
    """Train a toy on one number a step."""
    toy = Toy(total_steps=epochs * len(batches))
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        max_steps=toy.total_steps,
        max_epochs=-1,
        plugins=[AtomicCheckpointIO()],
        logger=settings.pop("logger", False),
        enable_progress_bar=settings.pop("enable_progress_bar", False),
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **settings,
    )
    known = ckpt if ckpt and ckpt.is_file() else None
    trainer.fit(toy, datamodule=ToyData(batches), ckpt_path=str(known) if known else None, weights_only=True)
    return trainer, toy
