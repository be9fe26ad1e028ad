"""What training asks of a caption source, and the samples it gives."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from torch import Tensor

from cliplab.data.images import BadImage
from cliplab.data.layout import Row, Unusable
from cliplab.data.rows import CaptionRows

DRAWS = 100  # rows drawn at random to stand in for an unusable one, before a source is given up
MOST_TOLD = 200  # characters of what is wrong with a row
STAND_INS = 2**48  # where the random numbers of such draws begin; those of samples are below

TrainingTransform = Callable[[np.ndarray, np.random.Generator], Tensor]
EvaluationTransform = Callable[[Image.Image], Tensor]


class Sample(NamedTuple):
    """One training pair: uint8 ``[3, size, size]``, its caption, where it comes from and what it shows.

    ``bad`` is the row that should have been here, when it was unusable and this one, drawn at random, stands in.
    ``source`` names the source in a mixture. ``probe`` marks the samples that tell of the whole source: all of them where
    rows come in random order, one of each part in a stream.
    """

    image: Tensor
    caption: str
    epoch: int
    index: int  # type: ignore[assignment]
    group: int
    bad: Unusable | None = None
    source: str = ""
    probe: bool = True


class BatchReader(Protocol):
    """Batches of one rank, from any place on."""

    def read(self, epoch: int, batches: range) -> Iterator[Any]:
        """This rank's share of these global batches of an epoch."""
        ...


class Source(Protocol):
    """Image-caption pairs to train on.

    ``fingerprint`` changes with the data and with whatever the order of samples depends on. ``sized`` tells whether the
    samples of an epoch are known without being told; ``row_count`` counts the rows that samples are made of, where that is
    known, and ``damaged`` are rows known to be lost beside those. ``lanes`` are a stream's independent shares, which a
    checkpoint keeps.
    """

    lanes: int | None
    sized: bool
    damaged: Sequence[Unusable]

    @property
    def fingerprint(self) -> str: ...

    @property
    def row_count(self) -> int | None: ...

    def __len__(self) -> int:
        """Samples an epoch, over all ranks."""
        ...

    def prepare(
        self, *, seed: int, train_transform: TrainingTransform, eval_transform: EvaluationTransform | None
    ) -> None:
        """Set the seed of all draws, and the transforms."""
        ...

    def set_samples_per_epoch(self, samples: int) -> None:
        """For a source that is not ``sized``."""
        ...

    def batch_reader(self, *, collate: Callable, batch_size: int, num_workers: int, seed: int) -> BatchReader: ...


@runtime_checkable
class CaptionSource(Source, Protocol):
    """A source of one data set, whose rows can also be read as they are. ``total_rows`` counts them, where that is known."""

    rows: CaptionRows

    @property
    def total_rows(self) -> int | None: ...

    def raw_rows(self, start: int = 0) -> Iterator[Row]:
        """Each row once, in the data set's own order, before filters, from row ``start`` on."""
        ...


def first_usable(attempts: Iterator[Callable[[], Sample]], place: Callable[[], str], on_error: str) -> Sample:
    """The first attempt, or else the first of those after it that is usable, with the first noted as ``bad``. ``place``
    tells where its row stands; it is asked only then, since that may take reading.

    Raises RuntimeError when no attempt is usable, or at once when ``on_error`` is ``stop``.
    """
    reason, detail, tried = "", "", 0
    for read in attempts:
        tried += 1
        try:
            sample = read()
        except BadImage as error:
            if on_error == "stop":
                raise RuntimeError(
                    f"{place()} is unusable: {error}; mend it, or replace it with data.train.on_error=replace"
                ) from error
            reason, detail = reason or error.reason, detail or str(error)[:MOST_TOLD]
        else:
            return sample._replace(bad=Unusable(reason, place())) if reason else sample
    told = detail if reason == "missing_file" else reason
    raise RuntimeError(
        f"{place()} is unusable ({told}), and so are {tried - 1} rows drawn at random in its place; mend the data, or name "
        "the right columns: data.train.image_columns=[…] data.train.caption_columns=[…]"
    )
