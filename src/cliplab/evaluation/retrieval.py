"""Image-text retrieval."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cliplab.distributed import gather, world_size
from cliplab.evaluation.batches import CachedImages, fixed_batches
from cliplab.evaluation.prompts import embed_texts
from cliplab.evaluation.protocol import protocol_of
from cliplab.evaluation.result import Encoders, EvaluationResult
from cliplab.models.tokens import Tokens

KS = (1, 5, 10)
TOP = 5
BLOCK = 512


class Found(NamedTuple):
    """For each query the rank of its best matching key (0 is first), and the best keys with their scores, all matching
    or not; int64 ``[queries]``, int64 and float32 ``[queries, top]``."""

    ranks: Tensor
    top: Tensor
    scores: Tensor


def search(queries: Tensor, keys: Tensor, query_captions: Tensor, key_captions: Tensor) -> Found:
    """Every query against every key, blockwise.

    Captions are ids ``[rows, captions]``, negative for none; a key matches when it shares one with the query.
    Ties count against the match, and so does what is not a number: a constant embedding scores nothing.
    """
    blocks = []
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ keys.T
        match = torch.zeros_like(scores, dtype=torch.bool)
        for own in query_captions[start : start + BLOCK].unbind(1):
            for other in key_captions.unbind(1):
                match |= (own[:, None] == other[None]) & (own[:, None] >= 0)
        best = scores.masked_fill(~match, float("-inf")).amax(1, keepdim=True)
        top = scores.topk(min(TOP, len(keys)), dim=1)
        blocks.append(((~(scores < best) & ~match).sum(1), top.indices, top.values))
    return Found(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))


def median_rank(ranks: Tensor) -> float:
    """Counted from 1; the mean of the middle two when their number is even."""
    return float(ranks.double().quantile(0.5) + 1)


class Retrieval:
    """Recall at 1, 5, 10 and median rank both ways over a caption set, several captions an image.

    A caption that several images share matches all of them, since nobody could tell them apart.
    """

    task = "zeroshot_retrieval"

    def __init__(self, *, name: str, dataset: Any, batch_size: int = 256) -> None:
        self.name, self.dataset, self.batch_size = name, dataset, batch_size
        self.images = CachedImages(dataset)
        self._texts: tuple[Tokens, Tensor] | None = None

    @functools.cached_property
    def protocol(self) -> dict[str, str | None]:
        """See ``protocol_of``."""
        return protocol_of(dataset=self.dataset, images=self.images)

    def _embed_images(self, model: Encoders, device: torch.device) -> tuple[Tensor, list[list[str]]]:
        """Embeddings and captions of all images in the order of the set, each rank computing its share."""
        parts, captions = [], []
        for images, own, indices in fixed_batches(self.images, self.batch_size):
            parts.append(model.encode_image(images.to(device, non_blocking=True))[: len(indices)].float())
            captions += own
        return joined(torch.cat(parts), captions, len(self.dataset))

    def _caption_ids(self, captions: list[list[str]], tokenizer: Callable[[Sequence[str]], Tokens]) -> Tensor:
        """Tokenise the distinct captions once; int64 ``[images, most captions]``, -1 where an image has fewer."""
        if self._texts is None:
            place = {text: i for i, text in enumerate(dict.fromkeys(text for own in captions for text in own))}
            ids = [torch.tensor([place[text] for text in own], dtype=torch.int64) for own in captions]
            self._texts = tokenizer(list(place)), pad_sequence(ids, batch_first=True, padding_value=-1)
        return self._texts[1]

    @torch.no_grad()
    def evaluate(
        self,
        model: Encoders,
        tokenizer: Callable[[Sequence[str]], Tokens],
        device: Any,
        *,
        thorough: bool = True,
    ) -> EvaluationResult:
        """``thorough`` adds a row per image: its captions, ranks, and what was found first."""
        device, clock = torch.device(device), [time.perf_counter()]
        image_embeds, captions = self._embed_images(model, device)
        clock.append(time.perf_counter())
        image_captions = self._caption_ids(captions, tokenizer).to(device)
        text_captions = image_captions[image_captions >= 0].unsqueeze(1)  # [captions, 1], in the order of the set
        assert self._texts is not None
        text_embeds = embed_texts(model, self._texts[0], device)[text_captions.squeeze(1)]
        clock.append(time.perf_counter())
        with torch.autocast(device.type, enabled=False):
            ways = {
                "image_retrieval": search(text_embeds, image_embeds, text_captions, image_captions),
                "text_retrieval": search(image_embeds, text_embeds, image_captions, text_captions),
            }
        metrics = recalls({way: found.ranks for way, found in ways.items()})
        metrics |= {"images": float(len(image_embeds)), "captions": float(len(text_embeds))}
        samples = retrieval_rows(captions, **ways) if thorough else {}
        seconds = {"images": clock[1] - clock[0], "text": clock[2] - clock[1], "search": time.perf_counter() - clock[2]}
        details: dict[str, Any] = {"protocol": self.protocol, "subset": None, "warnings": []}
        return EvaluationResult(self.name, self.task, metrics, str(self.protocol["all"]), details, samples, seconds)


def recalls(ranks: dict[str, Tensor]) -> dict[str, float]:
    """CLIP_benchmark's names for each way; ``recall@k`` is the mean of both ways."""
    metrics = {f"{way}_recall@{k}": float((r < k).double().mean()) for way, r in ranks.items() for k in KS}
    metrics |= {f"{way}_median_rank": median_rank(r) for way, r in ranks.items()}
    return metrics | {f"recall@{k}": sum(metrics[f"{way}_recall@{k}"] for way in ranks) / len(ranks) for k in KS}


def retrieval_rows(captions: list[list[str]], image_retrieval: Found, text_retrieval: Found) -> dict[str, list[Any]]:
    """A row per image. ``text_rank`` is the rank of its best own caption, ``top_texts`` the captions found for it with
    ``top_text_scores``; per own caption ``image_rank``, and ``top_images`` (rows found for it) with ``top_image_scores``.
    """
    texts = [text for own in captions for text in own]
    ends = np.cumsum([len(own) for own in captions])[:-1]

    def by_image(column: Tensor) -> list[Any]:
        return [part.tolist() for part in np.split(column.cpu().numpy(), ends)]

    return {
        "index": list(range(len(captions))),
        "captions": captions,
        "text_rank": text_retrieval.ranks.tolist(),
        "top_texts": [[texts[i] for i in row] for row in text_retrieval.top.tolist()],
        "top_text_scores": text_retrieval.scores.tolist(),
        "image_rank": by_image(image_retrieval.ranks),
        "top_images": by_image(image_retrieval.top),
        "top_image_scores": by_image(image_retrieval.scores),
    }


def joined(embeds: Tensor, captions: list[list[str]], total: int) -> tuple[Tensor, list[list[str]]]:
    """Every rank's rows ``rank, rank + world, …`` in the order of the set, ``[total, dim]``, and their captions."""
    world = world_size()
    if world == 1:
        return embeds, captions
    share = -(-total // world)
    filled = torch.cat([embeds, embeds.new_zeros(share - len(embeds), embeds.shape[1])])
    rows = gather(filled).view(world, share, -1).transpose(0, 1).flatten(0, 1)[:total]
    everyone: list[Any] = [None] * world
    dist.all_gather_object(everyone, captions)
    return rows, [everyone[i % world][i // world] for i in range(total)]
