"""Several caption sources as one, sampled by weight."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from cliplab.data.captions import CaptionDataset, RowSource
from cliplab.data.order import epoch_permutation, sample_rng
from cliplab.data.source import CaptionSource, EvaluationTransform, Sample, Source, TrainingTransform
from cliplab.data.stream import CaptionStream, StreamSource
from cliplab.data.stream_rows import RowsInTurn, StreamRow
from cliplab.rules import Count

BLOCK = 1000  # rows of a stream in which each source has exactly its share


def quotas(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Divide ``total`` in proportion to ``weights``, by largest remainder. Raises ValueError on a weight below 0."""
    if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ValueError(f"data.train.weights {dict(weights)} must be 0 or more, and one of them above 0")
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def _joint_fingerprint(sources: Mapping[str, Source], weights: Mapping[str, float]) -> str:
    facts = [(name, source.fingerprint, weights[name]) for name, source in sources.items()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


class CaptionMixture(RowSource):
    """Several sources read by row, as one. An epoch has ``samples_per_epoch`` samples (None: as many as all sources
    together). Each source gives a share by ``weights`` (None: in proportion to its size).

    A source gives all of its samples, in a new order each time, before it repeats one, across epochs. The samples of an
    epoch are a function of (seed, epoch, place) alone, and a repeated sample is augmented differently.
    """

    row_count = None  # a mixture draws samples by weight, not by the number of rows

    def __init__(
        self,
        *,
        sources: Mapping[str, CaptionDataset],
        weights: Mapping[str, float] | None = None,
        samples_per_epoch: Count | None = None,
    ) -> None:
        self.sources = dict(sources)
        self.names = list(self.sources)
        sizes = {name: len(source) for name, source in self.sources.items()}
        self.weights = dict(weights or sizes)
        self.damaged = [bad.within(name) for name, source in self.sources.items() for bad in source.damaged]
        self.shares = quotas(self.weights, samples_per_epoch or sum(sizes.values()))
        self.offsets = np.cumsum([0, *sizes.values()])
        self.group_offsets = np.cumsum([0, *(int(source.groups.max()) + 1 for source in self.sources.values())])

    def prepare(
        self, *, seed: int, train_transform: TrainingTransform, eval_transform: EvaluationTransform | None
    ) -> None:
        for k, source in enumerate(self.sources.values()):
            source.prepare(seed=seed ^ (k << 32), train_transform=train_transform, eval_transform=eval_transform)

    @property
    def fingerprint(self) -> str:
        return _joint_fingerprint(self.sources, self.weights)

    def __len__(self) -> int:
        return sum(self.shares.values())

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """(turn of the source, index) of each sample of an epoch, int64 ``[samples, 2]``."""
        keys = []
        for k, (name, source) in enumerate(self.sources.items()):
            share = self.shares[name]
            turns, places = np.divmod(np.arange(epoch * share, (epoch + 1) * share), len(source))
            indices = np.empty_like(places)
            for turn in np.unique(turns):
                here = turns == turn
                indices[here] = epoch_permutation(len(source), seed ^ (k + 1 << 32), int(turn))[places[here]]
            keys.append(np.stack([turns, self.offsets[k] + indices], axis=1))
        return np.concatenate(keys)[epoch_permutation(len(self), seed, epoch)]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        turn, index = key
        k = int(np.searchsorted(self.offsets, index, side="right")) - 1
        sample = self.sources[self.names[k]][(turn, index - int(self.offsets[k]))]
        return sample._replace(
            index=int(self.offsets[k]) + sample.index,
            group=int(self.group_offsets[k]) + sample.group,
            bad=sample.bad and sample.bad.within(self.names[k]),
            source=self.names[k],
        )


class MixedRows:
    """The rows of several sources, mixed. In every block each source has exactly its share."""

    def __init__(
        self, sources: Sequence[RowsInTurn], shares: Sequence[int], order: Callable[[int], np.random.Generator]
    ):
        self.sources, self.order = sources, order
        self.pattern = np.repeat(np.arange(len(sources)), list(shares))
        self.last = 0  # the source of the row that was read last
        self._rows = self._endless()

    @property
    def held(self) -> Sequence[StreamRow]:
        """Rows in memory of the last row's source: its replacement comes from the same source, which keeps the weights."""
        return [row._replace(source=self.last) for row in self.sources[self.last].held]

    def __next__(self) -> StreamRow:
        return next(self._rows)

    def _endless(self) -> Iterator[StreamRow]:
        for block in itertools.count():
            for k in self.order(block).permutation(self.pattern).tolist():
                self.last = k
                yield next(self.sources[k])._replace(source=k)


class StreamMixture(StreamSource):
    """Several streams as one. In every thousand rows of a part each source has exactly its share by ``weights`` (None:
    equal shares)."""

    row_count = None

    def __init__(
        self,
        *,
        sources: Mapping[str, CaptionStream],
        weights: Mapping[str, float] | None = None,
        samples_per_epoch: Count | None = None,
    ) -> None:
        self.sources = dict(sources)
        self.names, self.streams = list(self.sources), list(self.sources.values())
        super().__init__(samples_per_epoch, self.streams[0].lanes)
        self.weights = dict(weights or dict.fromkeys(sources, 1.0))
        self.shares = quotas(self.weights, BLOCK)
        self.on_error, self.path = self.streams[0].on_error, ", ".join(self.names)

    @functools.cached_property
    def fingerprint(self) -> str:
        return _joint_fingerprint(self.sources, self.weights)

    def prepare(
        self, *, seed: int, train_transform: TrainingTransform, eval_transform: EvaluationTransform | None
    ) -> None:
        self.seed = seed
        for k, source in enumerate(self.streams):
            source.prepare(seed=seed ^ (k << 32), train_transform=train_transform, eval_transform=eval_transform)

    def begin(self, *, epoch: int, batches: range, batch_size: int) -> None:
        super().begin(epoch=epoch, batches=batches, batch_size=batch_size)
        for source in self.streams:
            source.lanes = self.lanes
            source.begin(epoch=epoch, batches=batches, batch_size=batch_size)

    @property
    def parts(self) -> int:
        """The most parts that every source can fill."""
        return min(source.parts for source in self.streams)

    def rows_in_turn(self, number: int, count: int) -> MixedRows:
        return MixedRows(
            [source.rows_in_turn(number, count) for source in self.streams],
            list(self.shares.values()),
            lambda block: sample_rng(self.seed, self.epoch, 2**50 + block * 2**20 + number),
        )

    def rng(self, row: StreamRow, number: int) -> np.random.Generator:
        return self.streams[row.source].rng(row, number)

    def sample(self, row: StreamRow, number: int, rng: np.random.Generator) -> Sample:
        return self.streams[row.source].sample(row, number, rng)._replace(source=self.names[row.source])

    def draw(self, source: int, rng: np.random.Generator) -> StreamRow | None:
        return self.streams[source].draw(source, rng)

    def place(self, row: StreamRow) -> str:
        return f"{self.names[row.source]} {row.row.place}"


def caption_mixture(
    *,
    sources: Mapping[str, CaptionSource],
    weights: Mapping[str, float] | None = None,
    samples_per_epoch: Count | None = None,
) -> CaptionMixture | StreamMixture:
    """The mixture of these sources. Raises ValueError when some are streams and some are not, or when the names of weights
    and sources differ."""
    if weights and set(weights) != set(sources):
        raise ValueError(f"data.train.weights name {sorted(weights)}, data.train.sources {sorted(sources)}")
    weights = {name: weights[name] for name in sources} if weights else None
    streams = {name: source for name, source in sources.items() if isinstance(source, CaptionStream)}
    by_row = {name: source for name, source in sources.items() if isinstance(source, CaptionDataset)}
    if sources and len(streams) == len(sources):
        return StreamMixture(sources=streams, weights=weights, samples_per_epoch=samples_per_epoch)
    if sources and len(by_row) == len(sources):
        return CaptionMixture(sources=by_row, weights=weights, samples_per_epoch=samples_per_epoch)
    raise ValueError(
        f"data.train.sources: a mixture needs sources, all streamed or all read by row; streamed are {sorted(streams)}, "
        f"read by row {sorted(by_row)}"
    )
