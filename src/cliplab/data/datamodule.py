"""The data module: any caption source, one order for any number of workers and ranks, exact resume."""

from collections.abc import Callable
from typing import Any, Literal

import lightning
import numpy as np
import torch

from cliplab.data.captions import CaptionDataset, CaptionPairs
from cliplab.data.counts import Counts
from cliplab.data.loader import Batch, CaptionLoader, Collate
from cliplab.data.source import Source
from cliplab.data.transforms import EvalTransform
from cliplab.distributed import gather_objects, rank, worker_processes, world_size
from cliplab.models.tokens import Tokenizer
from cliplab.rules import Count, Natural, Seed, Share


class CaptionDataModule(lightning.LightningDataModule):
    """Reads the caption source ``train``, and ``validation`` for retrieval.

    ``batch_size`` is the global batch, which the ranks share. The steps of ``augment`` process whole batches on their
    device, in the given order. ``counts`` counts what this rank has read. Training stops when more than
    ``max_bad_fraction`` of the rows are unusable. ``num_workers=None`` takes a worker for each core, at most four; the
    number of workers does not change any result. ``path``, ``streaming`` and ``samples_per_epoch`` are set here once;
    sources refer to them in configs. For a stream without a length, one epoch is the trainer's ``max_steps``.

    The state holds the counts of every rank, and the facts that the order of samples depends on. A checkpoint continues
    over the same data only, unless ``allow_changed_data`` is set.
    """

    def __init__(
        self,
        *,
        train: Source,
        validation: CaptionDataset | None,
        train_transform: Callable,
        eval_transform: EvalTransform,
        tokenizer: Tokenizer,
        batch_size: Count,
        seed: Seed,
        num_workers: Natural | None = 0,
        augment: dict[str, Callable] | None = None,
        max_bad_fraction: Share = 0.05,
        allow_changed_data: bool = False,
        path: str | None = None,
        streaming: bool = False,
        samples_per_epoch: Count | None = None,
        max_steps: Count | Literal[-1] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size {batch_size} must be at least 1")
        if isinstance(train, CaptionDataset) and validation and train.fingerprint == validation.fingerprint:
            raise ValueError(
                f"data.validation: its {len(validation)} pairs are those of data.train; name others, "
                "data.validation.split=… or data.validation.path=…, or leave it out: data.validation=null"
            )
        self.train, self.validation, self.augment = train, validation, augment or {}
        self.eval_transform = eval_transform
        self.tokenizer, self.batch_size, self.seed = tokenizer, batch_size, seed
        self.num_workers = worker_processes(num_workers)
        self.max_bad_fraction, self.allow_changed_data = max_bad_fraction, allow_changed_data
        self.counts = Counts()
        if not train.sized and max_steps and max_steps > 0:
            train.set_samples_per_epoch(max_steps * batch_size)
        len(train)  # raises for a stream of unknown length
        lost = Counts()
        lost.add_lost(train.damaged)
        lost.check(max_bad_fraction, train.row_count, len(train.damaged), whole_epoch=True)
        train.prepare(seed=seed, train_transform=train_transform, eval_transform=eval_transform)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train) // self.batch_size

    @property
    def sized(self) -> bool:
        """Whether the length of an epoch is known from the data or was set."""
        return self.train.sized

    @property
    def fingerprint(self) -> str:
        return self.train.fingerprint

    def validation_pairs(self) -> CaptionPairs | None:
        return None if self.validation is None else CaptionPairs(self.validation)

    def train_dataloader(self) -> CaptionLoader:
        """The loader, at the next batch of the training: one batch is one step of the trainer."""
        collate = Collate(self.tokenizer)
        loader = CaptionLoader(self.train, collate, self.batch_size, self.num_workers, self.seed, self._count)
        loader.load_state_dict({"batches": self.trainer.global_step if self.trainer else 0})
        return loader

    def _count(self, batch: Batch) -> None:
        self.counts.add(batch)
        self.counts.check(self.max_bad_fraction, self.train.row_count, len(self.train.damaged))

    def check_counts(self, counts: Counts) -> None:
        """Check the counts of all ranks after an epoch, however short. Raises DataError for too many unusable rows."""
        counts.check(self.max_bad_fraction, self.train.row_count, len(self.train.damaged), whole_epoch=True)

    def all_counts(self) -> Counts:
        """The counts of all ranks together. Every rank must call this."""
        counts = Counts.total(gather_objects(self.counts.as_dict()))
        counts.add_lost(self.train.damaged)
        return counts

    def _facts(self) -> dict[str, Any]:
        return {
            "fingerprint of the data": self.fingerprint,
            "samples an epoch": len(self.train) if self.train.sized else None,
            "data.batch_size": self.batch_size,
            "data.seed": self.seed,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"facts": self._facts(), "lanes": self.train.lanes, "counts": gather_objects(self.counts.as_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError when the checkpoint was made with other data or in another order."""
        facts = self._facts()
        changed = [f"{key} was {old} and is {facts[key]}" for key, old in state["facts"].items() if facts[key] != old]
        if changed and not self.allow_changed_data:
            raise ValueError(
                f"the data are not those of the checkpoint: {'; '.join(changed)}. Restore the earlier setting, or continue "
                "with the new order: data.allow_changed_data=true"
            )
        if not changed:
            self.train.lanes = state["lanes"]
        counts = state["counts"]
        if len(counts) == world_size():
            self.counts = Counts(**counts[rank()])
        elif rank() == 0:
            self.counts = Counts.total(counts)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Epochs and indices stay on the CPU, where the steps of ``augment`` read them without waiting for a GPU."""
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(epochs=batch.epochs, indices=batch.indices)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if not self.augment:
            return batch
        epochs, indices = (np.asarray(x.cpu()) for x in (batch.epochs, batch.indices))
        images = batch.images
        for step in self.augment.values():
            images = step(images, seed=self.seed, epochs=epochs, indices=indices)
        return batch._replace(images=images)
