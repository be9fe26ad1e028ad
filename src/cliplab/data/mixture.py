"""Several caption sources as one, sampled by weight."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from cliplab.data.captions import CaptionDataset, Sample
from cliplab.data.order import epoch_permutation, sample_rng
from cliplab.data.stream import CaptionStream, Row

BLOCK = 1000  # rows of a stream within which the shares of the weights are exact


def quotas(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """``total`` shared out in proportion to ``weights``, by largest remainder. Raises ValueError on a weight below 0."""
    if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ValueError(f"data.train.weights {dict(weights)} must be 0 or more, and one of them above 0")
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    rest = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in rest[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def _joint_fingerprint(sources: Mapping[str, Any], weights: Mapping[str, float]) -> str:
    facts = [(name, source.fingerprint, weights[name]) for name, source in sources.items()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


class CaptionMixture(Dataset):
    """Map-style sources as one. An epoch has ``samples_per_epoch`` samples (null: as many as all sources together), of which
    each source gives its share by ``weights`` (null: in proportion to its size).

    A source goes through all of its samples, in a new order each time, before it gives one again, across epochs. So what
    comes is a function of (seed, epoch, place) alone, and a sample that comes twice is augmented anew.
    """

    lanes = None

    def __init__(
        self,
        *,
        sources: Mapping[str, CaptionDataset],
        weights: Mapping[str, float] | None = None,
        samples_per_epoch: int | None = None,
    ) -> None:
        self.sources = dict(sources)
        self.names = list(self.sources)
        sizes = {name: len(source) for name, source in self.sources.items()}
        self.weights = dict(weights or sizes)
        self.shares = quotas(self.weights, samples_per_epoch or sum(sizes.values()))
        self.offsets = np.cumsum([0, *sizes.values()])
        self.group_offsets = np.cumsum([0, *(int(source.groups.max()) + 1 for source in self.sources.values())])

    def prepare(self, *, seed: int, train_transform: Any, eval_transform: Any) -> None:
        """Set by the data module: the seed of all draws, and the transforms."""
        for k, source in enumerate(self.sources.values()):
            source.prepare(seed=seed ^ (k << 32), train_transform=train_transform, eval_transform=eval_transform)

    @property
    def fingerprint(self) -> str:
        return _joint_fingerprint(self.sources, self.weights)

    def __len__(self) -> int:
        return sum(self.shares.values())

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """(turn of its source, index) of each sample of an epoch, int64 ``[samples, 2]``."""
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
        group, bad = sample.group + int(self.group_offsets[k]), sample.bad
        bad = bad and (bad[0], f"{self.names[k]} {bad[1]}")
        return sample._replace(index=index, group=group, bad=bad, source=self.names[k])


class StreamMixture(CaptionStream):
    """Streams as one: in every thousand rows of a part each source has exactly its share by ``weights`` (null: equal)."""

    def __init__(
        self,
        *,
        sources: Mapping[str, CaptionStream],
        weights: Mapping[str, float] | None = None,
        samples_per_epoch: int | None = None,
    ) -> None:
        self.sources, self.samples_per_epoch = dict(sources), samples_per_epoch
        self.weights = dict(weights or dict.fromkeys(sources, 1.0))
        self.shares = quotas(self.weights, BLOCK)
        first = next(iter(self.sources.values()))
        self.lanes, self.on_error, self.path = first.lanes, first.on_error, ", ".join(self.sources)
        self.seed, self.epoch, self.batches, self.batch_size = 0, 0, range(0), 1
        self.fingerprint = _joint_fingerprint(self.sources, self.weights)

    def prepare(self, *, seed: int, train_transform: Any, eval_transform: Any) -> None:
        self.seed = seed
        for k, source in enumerate(self.sources.values()):
            source.prepare(seed=seed ^ (k << 32), train_transform=train_transform, eval_transform=eval_transform)

    def begin(self, *, epoch: int, batches: range, batch_size: int) -> None:
        super().begin(epoch=epoch, batches=batches, batch_size=batch_size)
        for source in self.sources.values():
            source.lanes = self.lanes
            source.begin(epoch=epoch, batches=batches, batch_size=batch_size)

    @property
    def parts(self) -> int:
        """As many as every source can fill."""
        return min(source.parts for source in self.sources.values())

    def _rows(self, number: int, count: int) -> Iterator[Row]:
        opened = [source._rows(number, count) for source in self.sources.values()]
        pattern = np.repeat(np.arange(len(opened)), list(self.shares.values()))
        for block in itertools.count():
            for k in sample_rng(self.seed, self.epoch, 2**50 + block * 2**20 + number).permutation(pattern).tolist():
                row, which = next(opened[k])
                yield {"source": k, "row": row}, which

    def _sample(self, row: Row, number: int) -> Sample:
        name = list(self.sources)[row[0]["source"]]
        return self.sources[name]._sample((row[0]["row"], row[1]), number)._replace(source=name)


def caption_mixture(
    *,
    sources: Mapping[str, CaptionDataset | CaptionStream],
    weights: Mapping[str, float] | None = None,
    samples_per_epoch: int | None = None,
) -> CaptionMixture | StreamMixture:
    """The mixture that fits the sources. Raises ValueError when some are streams and some are not, or names differ."""
    streams = {name: isinstance(source, CaptionStream) for name, source in sources.items()}
    if len(set(streams.values())) != 1:
        raise ValueError(f"data.train.sources must all be streams, or all read by row, or there are none: {streams}")
    if weights and set(weights) != set(sources):
        raise ValueError(f"data.train.weights name {sorted(weights)}, data.train.sources {sorted(sources)}")
    weights = {name: weights[name] for name in sources} if weights else None
    kind: Any = StreamMixture if all(streams.values()) else CaptionMixture
    return kind(sources=sources, weights=weights, samples_per_epoch=samples_per_epoch)
