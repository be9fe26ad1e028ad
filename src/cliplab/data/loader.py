"""Batches of caption data for one rank, in an exact order, starting anywhere."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from cliplab.data.layout import DataError
from cliplab.data.source import Sample, Source
from cliplab.distributed import rank, world_size
from cliplab.models.tokens import Tokenizer, Tokens
from cliplab.signals import leave_signals_to_the_parent
from cliplab.text import uneven_batch


class Batch(NamedTuple):
    """A batch of training pairs: ``images`` uint8 ``[B, 3, S, S]``; ``epochs``, ``indices`` and ``groups`` int64 ``[B]``.

    ``bad`` is (reason, place) of each unusable row that was replaced. ``truncated`` counts the texts that were cut.
    ``sources`` names the source of each sample in a mixture. ``probes`` counts the samples that represent the whole source
    (see ``Sample.probe``), ``bad_probes`` those among them that were unusable. ``lost`` has (reason,
    rows) of rows that are lost with damaged files, in addition to ``bad``. ``captions`` are the texts before the tokenizer.
    """

    images: Tensor
    tokens: Tokens
    epochs: Tensor
    indices: Tensor
    groups: Tensor
    bad: list[tuple[str, str]]
    truncated: int
    sources: list[str]
    probes: int = 0
    bad_probes: int = 0
    lost: Sequence[tuple[str, int]] = ()
    captions: Sequence[str] = ()


def too_few_samples(samples: int, batch_size: int) -> str:
    """The message for a batch that the samples do not fill."""
    if samples == 1:
        return (
            "data: there is one training sample, and a contrastive objective compares the pairs of a batch, so nothing can "
            "be learned from it; give more pairs (another objective takes one with data.batch_size=1)"
        )
    return (
        f"data.batch_size: {batch_size} exceeds the {samples} training samples; set data.batch_size={samples} or less"
    )


class Collate:
    """Makes a Batch from samples. All texts are tokenised at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        epochs, indices, groups = torch.tensor([(s.epoch, s.index, s.group) for s in samples]).T.contiguous()
        before = self.tokenizer.truncated
        tokens = self.tokenizer([s.caption for s in samples]).with_places()
        return Batch(
            images=default_collate([s.image for s in samples]),  # in a worker: written to shared memory directly
            tokens=tokens,
            epochs=epochs,
            indices=indices,
            groups=groups,
            bad=[(s.bad.reason, s.bad.place) for s in samples if s.bad],
            truncated=self.tokenizer.truncated - before,
            sources=[s.source for s in samples if s.source],
            probes=sum(s.probe for s in samples),
            bad_probes=sum(s.probe and s.bad is not None for s in samples),
            lost=[(s.bad.reason, s.lost) for s in samples if s.bad and s.lost],
            captions=[s.caption for s in samples],
        )


@contextmanager
def _without_advice() -> Iterator[None]:
    """Hide torch's advice on the number of workers: the number was chosen by the user or from the cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _torch_loader(dataset: Dataset, **options: Any) -> DataLoader:
    with _without_advice():
        return DataLoader(
            dataset, pin_memory=torch.cuda.is_available(), worker_init_fn=leave_signals_to_the_parent, **options
        )


def _begin(loader: DataLoader) -> Iterator[Batch]:
    with _without_advice():
        return iter(loader)


class OrderedRows(Protocol):
    """Gives samples by key, and the keys of an epoch in order."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Sample: ...

    def order(self, seed: int, epoch: int) -> np.ndarray: ...


class _Keys:
    """Gives the keys of one rank's share of each batch in ``batches`` of an epoch."""

    def __init__(self, rows: OrderedRows, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.epoch, self.batches = 0, range(0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, share = self.rows.order(self.seed, self.epoch), self.batch_size // world_size()
        for batch in self.batches:
            first = batch * self.batch_size + rank() * share
            yield [(epoch, index) for epoch, index in order[first : first + share].tolist()]


class RowBatches:
    """Batches of samples that are read by key. Workers live until the run ends."""

    def __init__(self, rows: OrderedRows, *, collate: Callable, batch_size: int, num_workers: int, seed: int) -> None:
        self.keys = _Keys(rows, batch_size, seed)
        self.loader = _torch_loader(
            rows,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=num_workers,
            batch_sampler=self.keys,
            persistent_workers=num_workers > 0,
        )

    def read(self, epoch: int, batches: range) -> Iterator[Batch]:
        self.keys.epoch, self.keys.batches = epoch, batches
        return _begin(self.loader)


class StartableStream(Protocol):
    """A stream of samples that can begin anywhere."""

    def begin(self, *, epoch: int, batches: range, batch_size: int) -> None: ...


class StreamBatches:
    """Batches of a stream. Workers are new each epoch: a worker learns where to begin when it starts."""

    def __init__(self, stream: StartableStream, *, collate: Callable, batch_size: int, num_workers: int) -> None:
        self.stream, self.batch_size = stream, batch_size
        assert isinstance(stream, IterableDataset)
        self.loader = _torch_loader(
            stream, collate_fn=collate, num_workers=num_workers, batch_size=batch_size // world_size()
        )

    def read(self, epoch: int, batches: range) -> Iterator[Batch]:
        self.stream.begin(epoch=epoch, batches=batches, batch_size=self.batch_size)
        return _begin(self.loader)


def _without_traceback(error: RuntimeError) -> RuntimeError:
    """The error of a worker without the worker's traceback."""
    text = str(error)
    if "exited unexpectedly" in text or "is killed by signal" in text:
        return DataError(
            f"a worker that reads data died ({text.splitlines()[0].strip().rstrip('.')}), often because memory ran out: "
            "lower data.num_workers or data.shuffle_buffer, and resume"
        )
    kind = DataError if isinstance(error, DataError) else RuntimeError
    return kind(re.sub(r"^[\w.]+: ", "", text.rstrip().rsplit("\n", 1)[-1]))


class CaptionLoader:
    """Batches for one rank, epoch after epoch. Its state counts the batches given to the trainer, not those that workers
    have prefetched, so a resumed run continues with exactly the next batch. ``count`` is called with each batch."""

    def __init__(
        self,
        source: Source,
        collate: Collate,
        batch_size: int,
        num_workers: int,
        seed: int,
        count: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        if batch_size % world_size():
            raise ValueError(uneven_batch(batch_size, world_size()))
        if len(source) < batch_size:
            raise ValueError(too_few_samples(len(source), batch_size))
        self.source, self.steps, self.batch_size = source, len(source) // batch_size, batch_size
        self.epoch, self.position, self.count = 0, 0, count
        self.batches = source.batch_reader(collate=collate, batch_size=batch_size, num_workers=num_workers, seed=seed)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        if self.position >= self.steps:
            self.epoch, self.position = self.epoch + 1, 0
        iterator = self.batches.read(self.epoch, range(self.position, self.steps))
        while self.position < self.steps:
            try:
                batch = next(iterator)
            except RuntimeError as error:
                raise _without_traceback(error) from error
            self.position += 1
            self.count(batch)
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.epoch * self.steps + self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = divmod(state["batches"], self.steps)
