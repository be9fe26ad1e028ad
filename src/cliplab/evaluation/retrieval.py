"""Image-text retrieval."""

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cliplab.distributed import gather, rank, world_size
from cliplab.evaluation.prompts import embed_texts
from cliplab.evaluation.result import Encoders, EvaluationResult
from cliplab.models.tokens import Tokens

KS = (1, 5, 10)
BLOCK = 1024


def best_ranks(queries: Tensor, keys: Tensor, query_labels: Tensor, key_labels: Tensor) -> Tensor:
    """Rank of the best matching key for each query, int64 ``[queries]``, 0 is first, blockwise.

    A key matches when its label equals the query's. Ties count against the match: a constant embedding scores nothing.
    """
    ranks = []
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ keys.T
        match = query_labels[start : start + BLOCK, None] == key_labels[None]
        best = scores.masked_fill(~match, float("-inf")).amax(1, keepdim=True)
        ranks.append(((scores >= best) & ~match).sum(1))
    return torch.cat(ranks)


class Retrieval:
    """Recall at 1, 5, 10 and median rank both ways over a caption set, several captions an image.

    Pairs with the same caption text match each other, since nobody could tell them apart. Metric names are
    CLIP_benchmark's; ``recall@1`` is the mean of both ways.
    """

    task = "zeroshot_retrieval"

    def __init__(self, *, name: str, dataset: Any, batch_size: int = 256) -> None:
        self.name, self.dataset, self.batch_size = name, dataset, batch_size
        self._images: Tensor | None = None
        self._captions: list[list[str]] = []

    @property
    def protocol_hash(self) -> str:
        return hashlib.sha256(f"retrieval {self.dataset.fingerprint}".encode()).hexdigest()[:16]

    def _load(self) -> tuple[Tensor, list[list[str]]]:
        if self._images is None:
            pairs = [self.dataset[i] for i in range(len(self.dataset))]
            self._images = torch.stack([image for image, _ in pairs])
            self._captions = [captions for _, captions in pairs]
        return self._images, self._captions

    def _embed_images(self, model: Encoders, images: Tensor, device: torch.device) -> Tensor:
        """All images, each rank its share of equally many fixed-shape batches."""
        batches = -(-len(images) // self.batch_size)
        share = -(-batches // world_size())
        parts = []
        for batch in range(rank() * share, (rank() + 1) * share):
            part = images[batch * self.batch_size : (batch + 1) * self.batch_size]
            filler = part.new_zeros(self.batch_size - len(part), *images.shape[1:])
            parts.append(model.encode_image(torch.cat([part, filler]).to(device)).float())
        return gather(torch.cat(parts))[: len(images)]

    def evaluate(self, model: Encoders, tokenizer: Callable[[Sequence[str]], Tokens], device: Any) -> EvaluationResult:
        device, start = torch.device(device), time.perf_counter()
        images, captions = self._load()
        texts = [c for own in captions for c in own]
        owner = torch.tensor([i for i, own in enumerate(captions) for _ in own])
        label: dict[str, int] = {}
        image_labels = torch.tensor([label.setdefault(own[0], i) for i, own in enumerate(captions)]).to(device)
        text_labels = image_labels[owner.to(device)]
        image_embeds = self._embed_images(model, images, device)
        text_embeds = embed_texts(model, tokenizer(texts), device)
        with torch.autocast(device.type, enabled=False):
            ways = {
                "image_retrieval": best_ranks(text_embeds, image_embeds, text_labels, image_labels),
                "text_retrieval": best_ranks(image_embeds, text_embeds, image_labels, text_labels),
            }
        metrics = {f"{way}_recall@{k}": float((r < k).double().mean()) for way, r in ways.items() for k in KS}
        metrics |= {f"{way}_median_rank": float(r.double().median() + 1) for way, r in ways.items()}
        for k in KS:
            metrics[f"recall@{k}"] = sum(metrics[f"{way}_recall@{k}"] for way in ways) / 2
        seconds = {"total": time.perf_counter() - start}
        details = {"images": len(images), "captions": len(texts)}
        return EvaluationResult(self.name, self.task, metrics, self.protocol_hash, details, {}, seconds)
