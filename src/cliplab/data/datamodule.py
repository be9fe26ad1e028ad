"""The data module: any caption source, the same order for any number of workers and ranks, exact resume."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import lightning
import numpy as np

from cliplab.data.captions import CaptionDataset, CaptionPairs
from cliplab.data.loader import Batch, CaptionLoader, Collate
from cliplab.data.stream import CaptionStream
from cliplab.data.transforms import BatchAffine, EvalTransform


class CaptionDataModule(lightning.LightningDataModule):
    """Reads ``train`` (and ``validation``) caption sources.

    ``batch_size`` is the global batch, shared by the ranks. ``augment`` works on whole batches on their device. ``bad`` and
    ``truncated`` count, on this rank, unusable rows by reason and cut texts; above ``max_bad_fraction`` training stops.
    ``path``, ``streaming``, ``samples_per_epoch`` are said once here in configs, for the sources to refer to.
    """

    def __init__(
        self,
        *,
        train: CaptionDataset | CaptionStream,
        validation: CaptionDataset | None,
        train_transform: Callable,
        eval_transform: EvalTransform,
        tokenizer: Any,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        augment: BatchAffine | None = None,
        max_bad_fraction: float = 0.05,
        path: str | None = None,
        streaming: bool = False,
        samples_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size {batch_size} must be at least 1")
        self.train, self.validation, self.augment = train, validation, augment
        self.tokenizer, self.batch_size, self.seed, self.num_workers = tokenizer, batch_size, seed, num_workers
        self.max_bad_fraction, self.seen, self.truncated = max_bad_fraction, 0, 0
        self.bad: Counter[str] = Counter()
        self.first_bad: list[str] = []
        for source in (train, validation):
            if source is not None:
                source.prepare(seed=seed, train_transform=train_transform, eval_transform=eval_transform)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train) // self.batch_size

    @property
    def fingerprint(self) -> str:
        return self.train.fingerprint

    def validation_pairs(self) -> CaptionPairs | None:
        return None if self.validation is None else CaptionPairs(self.validation)

    def train_dataloader(self) -> CaptionLoader:
        """The loader, at the batch where training stands: one batch is one step of the trainer."""
        collate = Collate(self.tokenizer)
        loader = CaptionLoader(self.train, collate, self.batch_size, self.num_workers, self.seed, self._count)
        loader.load_state_dict({"batches": self.trainer.global_step if self.trainer else 0})
        return loader

    def _count(self, batch: Batch) -> None:
        self.bad.update(reason for reason, _ in batch.bad)
        self.first_bad = (self.first_bad + [f"{place}: {reason}" for reason, place in batch.bad])[:10]
        self.truncated += batch.truncated
        self.seen += len(batch.images)
        bad = self.bad.total()
        if self.seen >= 100 and bad > self.max_bad_fraction * self.seen:
            raise RuntimeError(
                f"{bad} of {self.seen} rows are unusable, {dict(self.bad)}: above data.max_bad_fraction "
                f"{self.max_bad_fraction}; mend the data or raise it. The first: {'; '.join(self.first_bad)}"
            )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if self.augment is None:
            return batch
        epochs, indices = (np.asarray(x.cpu()) for x in (batch.epochs, batch.indices))
        return batch._replace(images=self.augment(batch.images, seed=self.seed, epochs=epochs, indices=indices))
