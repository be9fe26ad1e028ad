"""How a set reaches the model: sharded over ranks, in batches of one shape, decoded once."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cliplab.distributed import rank, world_size


def fixed_batches(dataset: Any, batch_size: int) -> Iterator[tuple[Tensor, list[Any], list[int]]]:
    """This rank's images, targets and indices, of the rows ``rank, rank + world, …``.

    Images are always ``[batch_size, …]``, filled up with zeros, and every rank gets equally many batches: an embedding
    depends neither on its neighbours nor on the number of ranks, and no rank of a sharded model waits for another.
    """
    own = range(rank(), len(dataset), world_size())
    blank = torch.zeros_like(dataset[0][0])
    for start in range(0, -(-len(dataset) // world_size()), batch_size):
        indices = list(own[start : start + batch_size])
        items = [dataset[i] for i in indices]
        images = [image for image, _ in items] + [blank] * (batch_size - len(items))
        yield torch.stack(images), [target for _, target in items], indices


class CachedImages:
    """A data set whose decoded pictures are kept in memory (uint8) when all of them fit ``limit_bytes``."""

    def __init__(self, dataset: Any, limit_bytes: int = 512 * 2**20) -> None:
        self.dataset, self.limit = dataset, limit_bytes
        self.cache: dict[int, tuple[Tensor, Any]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if index in self.cache:
            return self.cache[index]
        item = self.dataset[index]
        if item[0].numel() * len(self.dataset) <= self.limit:
            self.cache[index] = item
        return item


def picture_hash(images: Any) -> str:
    """Of the first picture as the model sees it."""
    return hashlib.sha256(images[0][0].contiguous().numpy().tobytes()).hexdigest()
