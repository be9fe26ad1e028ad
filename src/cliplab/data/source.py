"""What training needs from a caption source, and the samples that a source gives."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from torch import Tensor

from cliplab.data.images import BadImage
from cliplab.data.layout import DataError, Row, Unusable
from cliplab.data.rows import CaptionRows

DRAWS = 100  # rows drawn at random to replace an unusable one, before the run stops
MOST_SHOWN = 200  # characters of an error message about a row
STAND_INS = 2**48  # the random numbers of such draws begin here; those of samples are below

TrainingTransform = Callable[[np.ndarray, np.random.Generator], Tensor]
EvaluationTransform = Callable[[Image.Image], Tensor]


class Sample(NamedTuple):
    """One training pair: an image, uint8 ``[3, size, size]``, with its caption and its place in the order of samples.

    Samples with the same ``group`` show the same thing. ``bad`` is the unusable row that this sample replaces, if any.
    ``lost`` more rows are lost with that one when it represents the remainder of a damaged file.
    ``source`` names the source in a mixture. ``probe`` marks the samples that represent the whole source: all of them
    where rows come in random order, one of each part in a stream.
    """

    image: Tensor
    caption: str
    epoch: int
    index: int  # type: ignore[assignment]
    group: int
    bad: Unusable | None = None
    source: str = ""
    probe: bool = True
    lost: int = 0


class BatchReader(Protocol):
    """Gives the batches of one rank, starting anywhere."""

    def read(self, epoch: int, batches: range) -> Iterator[Any]:
        """This rank's share of these global batches of an epoch."""
        ...


class Source(Protocol):
    """Image-caption pairs to train on.

    ``fingerprint`` changes with the data and with everything that the order of samples depends on. ``sized`` is true when
    the source itself knows how many samples an epoch has. ``row_count`` is the number of rows that samples are made from,
    None where it is unknown. ``damaged`` are rows that are lost in addition to those. ``lanes`` is the number of
    independent shares of a stream; a checkpoint stores it.
    """

    lanes: int | None
    sized: bool
    damaged: Sequence[Unusable]

    @property
    def fingerprint(self) -> str: ...

    @property
    def row_count(self) -> int | None: ...

    def __len__(self) -> int:
        """Samples in an epoch, over all ranks."""
        ...

    def prepare(
        self, *, seed: int, train_transform: TrainingTransform, eval_transform: EvaluationTransform | None
    ) -> None:
        """Set the seed of all draws, and the transforms."""
        ...

    def set_samples_per_epoch(self, samples: int) -> None:
        """Set the length of an epoch, for a source that is not ``sized``."""
        ...

    def batch_reader(self, *, collate: Callable, batch_size: int, num_workers: int, seed: int) -> BatchReader: ...


@runtime_checkable
class CaptionSource(Source, Protocol):
    """A source of one data set. Its rows can also be read unchanged. ``total_rows`` is None where it is unknown."""

    rows: CaptionRows

    @property
    def total_rows(self) -> int | None: ...

    def raw_rows(self, start: int = 0) -> Iterator[Row | Unusable]:
        """Each row once, in the order of the data set and before filters, from row ``start`` on. A row that is lost with its
        file is Unusable."""
        ...


def first_usable(attempts: Iterator[Callable[[], Sample]], place: Callable[[], str], on_error: str) -> Sample:
    """Return the first attempt that succeeds. Where the first one fails, the sample carries its row as ``bad``.

    ``place`` gives the place of the first attempt's row. It is called only after a failure, since it may have to read.
    Raises DataError when every attempt fails, or after the first when ``on_error`` is ``stop``.
    """
    reason, detail, tried = "", "", 0
    for read in attempts:
        tried += 1
        try:
            sample = read()
        except BadImage as error:
            if on_error == "stop":
                raise DataError(
                    f"{place()} is unusable: {error}; repair it, or replace it with data.train.on_error=replace"
                ) from error
            reason, detail = reason or error.reason, detail or str(error)[:MOST_SHOWN]
        else:
            return sample._replace(bad=Unusable(reason, place())) if reason else sample
    cause = detail if reason == "missing_file" else reason
    way = "repair the data, or set the right columns: data.train.image_columns=[…] data.train.caption_columns=[…]"
    if reason == "no_caption":
        way = (
            "name what holds the captions, data.train.caption_columns=[…], or the members or fields of tars, "
            "data.train.reader.caption_names=[…]; images with labels alone are for zeroshot=folder"
        )
    raise DataError(f"{place()} is unusable ({cause}), and so are {tried - 1} rows drawn at random in its place; {way}")
