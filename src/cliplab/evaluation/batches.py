"""Read the pictures of a set in batches of one shape: prepared, shared by the ranks, decoded once, copied ahead."""

import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cliplab.distributed import gather, gather_objects, rank, worker_processes, world_size
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.model import Encoders
from cliplab.rules import Count, Natural, NonNegative
from cliplab.signals import leave_signals_to_the_parent

IN_MEMORY = 2**29  # bytes of decoded pictures that are kept in memory; more are kept in a memory-mapped file


class PictureSet(Protocol):
    """Pictures by row. Each has a target: a label, one boolean for each class, or captions.

    ``fingerprint`` changes with the content. ``credits`` names the artists. ``notes`` says what of the set is not read.
    """

    @property
    def credits(self) -> Sequence[str]: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def fingerprint(self) -> str: ...
    def __len__(self) -> int: ...
    def picture(self, index: int) -> Image.Image: ...
    def target(self, index: int) -> Any: ...


class LabelledSet(PictureSet, Protocol):
    """A PictureSet with classes. ``labels`` is int64 ``[rows]``, or bool ``[rows, classes]`` when a picture has several.

    ``class_names`` and ``templates`` are those of the set, None when it has none. ``groups`` are masks of named parts.
    """

    labels: np.ndarray
    class_names: list[str] | None
    templates: list[str] | None
    groups: dict[str, np.ndarray]

    def relabel(self, places: Sequence[int]) -> None: ...


SetType = TypeVar("SetType", bound=PictureSet, covariant=True)


class Transform(Protocol):
    """Prepares a picture as uint8 ``[3, size, size]``. ``fingerprint`` describes in words how."""

    @property
    def fingerprint(self) -> str: ...
    def __call__(self, image: Image.Image) -> Tensor: ...


class Prepared(Dataset):
    """The rows of a PictureSet as the model sees them: (uint8 image, target)."""

    def __init__(self, pictures: PictureSet, transform: Transform) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.transform(self.pictures.picture(index)), self.pictures.target(index)


class ImageBatch(NamedTuple):
    """uint8 images ``[batch size, 3, size, size]``, padded with zeros, and the targets and rows of the real ones."""

    images: Tensor
    targets: list[Any]
    rows: list[int]


def _stacked(items: list[tuple[Tensor, Any]]) -> tuple[Tensor, list[Any]]:
    return torch.stack([image for image, _ in items]), [target for _, target in items]


class ImageCache:
    """Decoded pictures of this rank's rows, uint8 ``[rows, 3, size, size]``, in memory or in an unnamed file that
    disappears with the process. The file is in ``folder``, by default the system's folder for temporary files."""

    def __init__(self, rows: int, shape: Sequence[int], folder: str | None) -> None:
        size = (rows, *shape)
        with torch.inference_mode(False):  # a later evaluation may write to it outside inference mode
            if int(np.prod(size)) <= IN_MEMORY:
                self.pictures = torch.empty(size, dtype=torch.uint8)
            else:
                self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
                self.pictures = torch.from_numpy(np.memmap(self.file, dtype=np.uint8, mode="w+", shape=size))
        self.targets: dict[int, Any] = {}

    def put(self, slots: Sequence[int], images: Tensor, targets: Sequence[Any]) -> None:
        self.pictures[list(slots)] = images
        self.targets.update(zip(slots, targets, strict=True))

    def get(self, slots: Sequence[int]) -> tuple[Tensor, list[Any]]:
        return self.pictures[list(slots)], [self.targets[slot] for slot in slots]


class EvaluationImages(Generic[SetType]):
    """The pictures of ``dataset``, prepared by ``transform``, in batches for this rank. Each rank reads every
    ``world_size``-th row.

    Every batch is padded to ``[batch_size, …]``, and every rank gets the same number of batches. So an embedding depends
    neither on its neighbours nor on the number of ranks, and no rank of a sharded model waits for another.

    ``num_workers`` processes decode, and stay for the next evaluation. When all decoded pictures fit into ``cache_gb``,
    they are kept for the next evaluation instead; 0 keeps none.
    """

    def __init__(
        self,
        dataset: SetType,
        *,
        transform: Transform,
        batch_size: Count = 256,
        num_workers: Natural | None = 0,
        cache_gb: NonNegative = 0.5,
        cache_dir: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} of an evaluation must be at least 1")
        self.dataset, self.transform, self.batch_size = dataset, transform, batch_size
        self.num_workers = worker_processes(num_workers)
        self.prepared = Prepared(dataset, transform)
        self.cache_bytes, self.cache_dir = cache_gb * 2**30, cache_dir
        self.cache: ImageCache | None = None
        self.plan: list[list[int]] = []
        self.loader: DataLoader | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    @functools.cached_property
    def first(self) -> Tensor:
        """The first picture as the model sees it."""
        return self.prepared[0][0]

    def _decoded(self, plan: list[list[int]]) -> Iterator[tuple[Tensor, list[Any]]]:
        self.plan[:] = plan
        if self.loader is None:
            self.loader = DataLoader(
                self.prepared,
                batch_sampler=self.plan,
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                collate_fn=_stacked,
                worker_init_fn=leave_signals_to_the_parent,
                generator=torch.Generator(),  # its own: evaluating must not change the random draws of training
            )
        return iter(self.loader)

    def _wanted(self, rows: Sequence[int]) -> list[list[int]]:
        """The rows of this rank's batches. The last batches may be empty when another rank still has rows."""
        world, shares = world_size(), [0] * world_size()
        for row in rows:
            shares[row % world] += 1
        mine = [row for row in rows if row % world == rank()]
        return [mine[start : start + self.batch_size] for start in range(0, max(shares), self.batch_size)]

    def _pictures(self, rows: Sequence[int]) -> Iterator[ImageBatch]:
        world, blank = world_size(), torch.zeros_like(self.first)
        if self.cache is None and blank.numel() * len(self.dataset) <= self.cache_bytes:
            self.cache = ImageCache(-(-len(self.dataset) // world), blank.shape, self.cache_dir)
        known = self.cache.targets if self.cache else {}
        wanted = self._wanted(rows)
        missing = [[row for row in batch if row // world not in known] for batch in wanted]
        decoded = self._decoded([batch for batch in missing if batch]) if any(missing) else iter(())
        for batch, new in zip(wanted, missing, strict=True):
            images, targets = next(decoded) if new else (blank[None][:0], [])
            if self.cache:
                self.cache.put([row // world for row in new], images, targets)
                images, targets = self.cache.get([row // world for row in batch])
            filling = blank.expand(self.batch_size - len(batch), *blank.shape)
            yield ImageBatch(torch.cat([images, filling]), targets, batch)
        if self.cache and len(self.cache.targets) == len(range(rank(), len(self.dataset), world)):
            self.loader = None  # its processes are no longer needed

    def batches(self, device: torch.device, phases: Phases, rows: Sequence[int] | None = None) -> Iterator[ImageBatch]:
        """Batches on ``device``, of all rows or of ``rows``. Each batch is copied while the model works on the previous one.

        The phase ``load`` is the time that the program waits for pictures.
        """
        source = self._pictures(range(len(self.dataset)) if rows is None else rows)
        if device.type != "cuda":
            while (batch := _next(source, phases)) is not None:
                yield batch._replace(images=batch.images.to(device))
            return
        stream, first = torch.cuda.Stream(device), _next(source, phases)
        copying = None if first is None else _start_copy(first, device, stream)
        while copying is not None:
            batch, copied = copying
            upcoming = _next(source, phases)
            copying = None if upcoming is None else _start_copy(upcoming, device, stream)
            torch.cuda.current_stream(device).wait_event(copied)
            batch.images.record_stream(torch.cuda.current_stream(device))
            yield batch


def _next(source: Iterator[ImageBatch], phases: Phases) -> ImageBatch | None:
    with phases("load", host=True):
        return next(source, None)


def _start_copy(batch: ImageBatch, device: torch.device, stream: Any) -> tuple[ImageBatch, Any]:
    """Start copying the batch to a GPU on its own stream. Returns the batch, and an event that marks the end of the copy."""
    copied = torch.cuda.Event()
    with torch.cuda.stream(stream):
        batch = batch._replace(images=batch.images.pin_memory().to(device, non_blocking=True))
        copied.record(stream)
    return batch, copied


def embed_images(
    model: Encoders,
    images: EvaluationImages[PictureSet],
    device: torch.device,
    phases: Phases,
    rows: Sequence[int] | None = None,
) -> tuple[Tensor, list[Any]]:
    """Embeddings, float32 ``[rows, dim]``, and targets; see ``over_images``."""
    return over_images(model.encode_image, images, device, phases, rows)


def over_images(
    work: Callable[[Tensor], Tensor],
    images: EvaluationImages[PictureSet],
    device: torch.device,
    phases: Phases,
    rows: Sequence[int] | None = None,
) -> tuple[Tensor, list[Any]]:
    """What ``work`` gives for each picture, float32 ``[rows, …]``, and the targets of the whole set or of ``rows``, in the
    order of the set. Each rank computes its share."""
    parts, targets, mine = [], [], list[int]()
    for batch in images.batches(device, phases, rows):
        with phases("images"):
            parts.append(work(batch.images)[: len(batch.rows)].float())
        targets += batch.targets
        mine += batch.rows
    return joined(torch.cat(parts), targets, mine)


def joined(embeds: Tensor, targets: list[Any], rows: list[int]) -> tuple[Tensor, list[Any]]:
    """Join embeddings ``[rows, dim]`` and targets of all ranks, in the order of the set. ``rows`` are those of this rank."""
    if world_size() == 1:
        return embeds, targets
    by_rank = gather_objects((rows, targets))
    most = max(len(rank_rows) for rank_rows, _ in by_rank)
    padded = torch.cat([embeds, embeds.new_zeros(most - len(embeds), embeds.shape[1])])
    gathered = gather(padded).view(world_size(), most, -1)
    places = sorted(
        (row, number, position)
        for number, (rank_rows, _) in enumerate(by_rank)
        for position, row in enumerate(rank_rows)
    )
    ranks = torch.tensor([number for _, number, _ in places], device=embeds.device)
    positions = torch.tensor([position for _, _, position in places], device=embeds.device)
    return gathered[ranks, positions], [by_rank[number][1][position] for _, number, position in places]


def picture_hash(picture: Tensor) -> str:
    """SHA-256 of the pixels of a picture."""
    return hashlib.sha256(picture.contiguous().numpy().tobytes()).hexdigest()
