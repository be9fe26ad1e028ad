"""The data module: any caption source, the same order for any number of workers and ranks, exact resume."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from cliplab.data.captions import CaptionDataset, CaptionPairs, Sample, stack
from cliplab.data.order import epoch_permutation
from cliplab.data.stream import CaptionStream
from cliplab.data.transforms import BatchAffine, EvalTransform
from cliplab.distributed import rank, world_size
from cliplab.models.tokens import Tokens


class Batch(NamedTuple):
    """uint8 images ``[B, 3, S, S]``, tokens, and per sample its epoch, index and group, int64 ``[B]``; (reason, place)
    of each unusable row that was replaced, and how many texts were cut."""

    images: Tensor
    tokens: Tokens
    epochs: Tensor
    indices: Tensor
    groups: Tensor
    bad: list[tuple[str, str]]
    truncated: int


class Collate:
    """Samples to a Batch; texts are tokenised here, all at once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        epochs, indices, groups = torch.tensor([(s.epoch, s.index, s.group) for s in samples]).T.contiguous()
        before = self.tokenizer.truncated
        tokens = self.tokenizer([s.caption for s in samples])
        bad = [s.bad for s in samples if s.bad]
        return Batch(stack(samples), tokens, epochs, indices, groups, bad, self.tokenizer.truncated - before)


class _EpochBatches:
    """Keys of one rank's batches of one epoch, from batch ``start`` on."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch, self.start = 0, 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, share = epoch_permutation(self.size, self.seed, self.epoch), self.batch_size // world_size()
        for batch in range(self.start, self.size // self.batch_size):
            first = batch * self.batch_size + rank() * share
            yield [(self.epoch, int(i)) for i in order[first : first + share]]


class CaptionLoader:
    """Batches for one rank, endlessly by epoch. Its state counts the batches handed to the trainer, not those that
    workers prefetched, so that a resumed run sees the very next batch."""

    def __init__(
        self,
        source: CaptionDataset | CaptionStream,
        collate: Collate,
        batch_size: int,
        num_workers: int,
        seed: int,
        count: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        if batch_size % world_size():
            raise ValueError(
                f"data.batch_size {batch_size} is the global batch and no multiple of {world_size()} ranks; "
                f"set it to {batch_size // world_size() * world_size()}"
            )
        if len(source) < batch_size:
            raise ValueError(
                f"data.batch_size {batch_size} exceeds the {len(source)} training samples; "
                f"set data.batch_size to {len(source)} or less"
            )
        self.source, self.steps = source, len(source) // batch_size
        self.epoch, self.position, self.count = 0, 0, count
        options: dict[str, Any] = {
            "collate_fn": collate,
            "num_workers": num_workers,
            "pin_memory": torch.cuda.is_available(),
        }
        self.batches = _EpochBatches(len(source), batch_size, seed)
        if isinstance(source, IterableDataset):
            # Fresh workers every epoch: they are told where to begin when they start.
            self.loader = DataLoader(source, batch_size=batch_size // world_size(), **options)
        else:
            options |= {"batch_sampler": self.batches, "persistent_workers": num_workers > 0}
            self.loader = DataLoader(source, **options)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        if self.position >= self.steps:
            self.epoch, self.position = self.epoch + 1, 0
        self.batches.epoch, self.batches.start = self.epoch, self.position
        if isinstance(self.source, CaptionStream):
            self.source.begin(epoch=self.epoch, start=self.position, batch_size=self.loader.batch_size or 1)
        iterator = iter(self.loader)
        while self.position < self.steps:
            batch = next(iterator)
            self.position += 1
            self.count(batch)
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.epoch * self.steps + self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = divmod(state["batches"], self.steps)


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
