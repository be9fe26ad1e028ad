"""Image-text retrieval."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cliplab.evaluation.batches import EvaluationImages, embed_images
from cliplab.evaluation.clock import Phases
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

    A caption that several images share matches all of them, since nobody could tell them apart. For the
    options see EvaluationImages.
    """

    task = "zeroshot_retrieval"

    def __init__(
        self,
        *,
        name: str,
        dataset: Any,
        batch_size: int = 256,
        num_workers: int = 0,
        cache_gb: float = 0.5,
        cache_dir: str | None = None,
    ) -> None:
        self.name, self.dataset = name, dataset
        self.images = EvaluationImages(
            dataset, batch_size=batch_size, num_workers=num_workers, cache_gb=cache_gb, cache_dir=cache_dir
        )
        self._texts: tuple[Tokens, Tensor] | None = None

    @functools.cached_property
    def protocol(self) -> dict[str, str | None]:
        """See ``protocol_of``."""
        return protocol_of(dataset=self.dataset, images=self.images)

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
        device = torch.device(device)
        phases = Phases(device)
        image_embeds, captions = embed_images(model, self.images, device, phases)
        with phases("text"):
            image_captions = self._caption_ids(captions, tokenizer).to(device)
            text_captions = image_captions[image_captions >= 0].unsqueeze(1)  # [captions, 1], in the order of the set
            assert self._texts is not None
            text_embeds = embed_texts(model, self._texts[0], device)[text_captions.squeeze(1)]
        with phases("search"), torch.autocast(device.type, enabled=False):
            ways = {
                "image_retrieval": search(text_embeds, image_embeds, text_captions, image_captions),
                "text_retrieval": search(image_embeds, text_embeds, image_captions, text_captions),
            }
        metrics = recalls({way: found.ranks for way, found in ways.items()})
        metrics |= {"images": float(len(image_embeds)), "captions": float(len(text_embeds))}
        samples = retrieval_rows(captions, **ways) if thorough else {}
        details: dict[str, Any] = {"protocol": self.protocol, "subset": None, "warnings": []}
        hashed = str(self.protocol["all"])
        return EvaluationResult(self.name, self.task, metrics, hashed, details, samples, phases.seconds())


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
