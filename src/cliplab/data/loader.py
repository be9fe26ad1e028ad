"""Batches of caption data for one rank, in an exact order, from any place on."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cliplab.data.captions import CaptionDataset, Sample, stack
from cliplab.data.mixture import CaptionMixture
from cliplab.data.stream import CaptionStream
from cliplab.distributed import rank, world_size
from cliplab.models.tokens import Tokens


class Batch(NamedTuple):
    """uint8 images ``[B, 3, S, S]``, tokens, and per sample its epoch, index and group, int64 ``[B]``; (reason, place)
    of each unusable row that was replaced, how many texts were cut, and the names of
    the sources in a mixture."""

    images: Tensor
    tokens: Tokens
    epochs: Tensor
    indices: Tensor
    groups: Tensor
    bad: list[tuple[str, str]]
    truncated: int
    sources: list[str]


class Collate:
    """Samples to a Batch; texts are tokenised here, all at once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        epochs, indices, groups = torch.tensor([(s.epoch, s.index, s.group) for s in samples]).T.contiguous()
        before = self.tokenizer.truncated
        tokens = self.tokenizer([s.caption for s in samples])
        bad = [s.bad for s in samples if s.bad]
        truncated, sources = self.tokenizer.truncated - before, [s.source for s in samples if s.source]
        return Batch(stack(samples), tokens, epochs, indices, groups, bad, truncated, sources)


class _EpochBatches:
    """Keys of one rank's batches of one epoch, from batch ``start`` on."""

    def __init__(self, source: Any, batch_size: int, seed: int) -> None:
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.epoch, self.start = 0, 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, share = self.source.order(self.seed, self.epoch), self.batch_size // world_size()
        for batch in range(self.start, len(order) // self.batch_size):
            first = batch * self.batch_size + rank() * share
            yield [(epoch, index) for epoch, index in order[first : first + share].tolist()]


def _clear(error: Exception) -> RuntimeError:
    """What went wrong in a worker, without the worker's traceback."""
    text = str(error)
    if "exited unexpectedly" in text or "is killed by signal" in text:
        return RuntimeError(
            f"a worker that reads data died ({text.splitlines()[0].strip().rstrip('.')}), often for want of memory: "
            "lower data.num_workers or data.shuffle_buffer, and resume"
        )
    return RuntimeError(text.rstrip().rsplit("\n", 1)[-1].removeprefix("RuntimeError: "))


class CaptionLoader:
    """Batches for one rank, endlessly by epoch. Its state counts the batches handed to the trainer, not those that
    workers prefetched, so that a resumed run sees the very next batch."""

    def __init__(
        self,
        source: CaptionDataset | CaptionMixture | CaptionStream,
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
        self.source, self.steps, self.batch_size = source, len(source) // batch_size, batch_size
        self.epoch, self.position, self.count = 0, 0, count
        options: dict[str, Any] = {
            "collate_fn": collate,
            "num_workers": num_workers,
            "pin_memory": torch.cuda.is_available(),
        }
        self.batches = _EpochBatches(source, batch_size, seed)
        if isinstance(source, CaptionStream):
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
            rest = range(self.position, self.steps)
            self.source.begin(epoch=self.epoch, batches=rest, batch_size=self.batch_size)
        iterator = iter(self.loader)
        while self.position < self.steps:
            try:
                batch = next(iterator)
            except RuntimeError as error:
                raise _clear(error) from error
            self.position += 1
            self.count(batch)
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.epoch * self.steps + self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = divmod(state["batches"], self.steps)
