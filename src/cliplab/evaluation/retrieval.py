"""Image-text retrieval."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cliplab.evaluation.batches import EvaluationImages, PictureSet, embed_images, over_images
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.kind import Details, Kind, ProtocolHashes
from cliplab.evaluation.kinds.retrieval import KIND
from cliplab.evaluation.model import Tokenizer, ZeroShotModel
from cliplab.evaluation.prompts import embed_texts, evenly_spread
from cliplab.evaluation.protocol import protocol_of
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.tally import fewer
from cliplab.models.tokens import Tokens

KS = (1, 5, 10)
TOP = 5
BLOCK = 512


class Found(NamedTuple):
    """For each query, the rank of its best matching key (0 is the first), int64 ``[queries]``; and the keys with the highest
    scores, matching or not, int64 ``[queries, top]``, with their scores, float32 ``[queries, top]``."""

    ranks: Tensor
    top: Tensor
    scores: Tensor


def search(compare: Callable[[slice], Tensor], query_captions: Tensor, key_captions: Tensor) -> Found:
    """Compare every query with every key, in blocks. ``compare`` gives the scores of some queries, ``[queries, keys]``.

    Captions are ids ``[rows, captions]``; a negative id is no caption. A key matches a query when they share a caption.
    Ties and NaN count against the match, so a constant embedding scores nothing.
    """
    blocks = []
    for start in range(0, len(query_captions), BLOCK):
        scores = compare(slice(start, start + BLOCK))
        match = torch.zeros_like(scores, dtype=torch.bool)
        for of_query in query_captions[start : start + BLOCK].unbind(1):
            for of_key in key_captions.unbind(1):
                match |= (of_query[:, None] == of_key[None]) & (of_query[:, None] >= 0)
        best = scores.masked_fill(~match, float("-inf")).amax(1, keepdim=True)
        top = scores.topk(min(TOP, len(key_captions)), dim=1)
        blocks.append(((~(scores < best) & ~match).sum(1), top.indices, top.values))
    return Found(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))


def median_rank(ranks: Tensor) -> float:
    """The median rank, counted from 1. For an even number of ranks it is the mean of the two in the middle."""
    return float(ranks.double().quantile(0.5) + 1)


class Compared(NamedTuple):
    """The captions of each image, as texts and as ids (see ``search``); the scores of some texts for all images, and those
    of some images for all texts."""

    captions: list[list[str]]
    image_captions: Tensor
    text_captions: Tensor
    images_of: Callable[[slice], Tensor]
    texts_of: Callable[[slice], Tensor]


class Retrieval:
    """Recall at 1, 5 and 10 and median rank, in both directions, over a set with one or more captions for each image.

    A caption that several images share matches all of them.
    """

    kind: Kind = KIND
    final_only = False

    def __init__(self, *, name: str, images: EvaluationImages[PictureSet]) -> None:
        self.name, self.images, self.notes = name, images, list(images.dataset.notes)
        self._texts: tuple[Tokens, dict[str, int]] | None = None

    def protocol(self, part: str | None = None) -> ProtocolHashes:
        """See ``protocol_of``. ``part`` says which part of the set was used."""
        return protocol_of(images=self.images, part=part)

    def _tokenised(self, captions: list[list[str]], tokenizer: Tokenizer) -> tuple[Tokens, dict[str, int]]:
        """The tokens of the distinct captions, and the position of each caption among them. They are kept for the next
        evaluation of the same captions."""
        texts = dict.fromkeys(text for of_image in captions for text in of_image)
        if self._texts is None or self._texts[1].keys() != texts.keys():
            self._texts = tokenizer(list(texts)), {text: i for i, text in enumerate(texts)}
        return self._texts

    @torch.no_grad()
    def evaluate(self, model: ZeroShotModel, *, thorough: bool = True, most: int | None = None) -> EvaluationResult:
        """See ``Evaluator``. A thorough evaluation adds a row for each image: its captions, its ranks, and what was found
        first. A part of the set is searched with its own captions and images only."""
        phases = Phases(model.device)
        limit = None if thorough else fewer(most, of=len(self.images))
        rows = None if limit is None else evenly_spread(len(self.images), limit)
        compared = (self._by_cosine if model.score is None else self._by_score)(model, phases, rows)
        captions, image_captions, text_captions = compared.captions, compared.image_captions, compared.text_captions
        with phases("search"), torch.autocast(model.device.type, enabled=False):
            ways = {
                "image_retrieval": search(compared.images_of, text_captions, image_captions),
                "text_retrieval": search(compared.texts_of, image_captions, text_captions),
            }
        metrics = recalls({way: found.ranks for way, found in ways.items()})
        metrics |= {"images": float(len(image_captions)), "captions": float(len(text_captions))}
        samples = retrieval_rows(captions, **ways) if thorough else {}
        part = None if rows is None else f"{limit:,} of the {len(self.images):,} images, evenly spread"
        protocol = self.protocol(part)
        details: Details = {"protocol": protocol, "subset": part, "warnings": [*self.notes]}
        if model.score is not None:
            details["by_score"] = True
        hashed = protocol["all"]
        return EvaluationResult(self.name, self.kind, metrics, hashed, details, samples, phases.seconds())

    def _by_cosine(self, model: ZeroShotModel, phases: Phases, rows: Sequence[int] | None) -> Compared:
        images, captions = embed_images(model.encoders, self.images, model.device, phases, rows)
        with phases("text"):
            tokens, place = self._tokenised(captions, model.tokenizer)
            image_captions, text_captions = numbered(captions, place, model.device)
            texts = embed_texts(model.encoders, tokens, model.device)[text_captions.squeeze(1)]
        return Compared(
            captions,
            image_captions,
            text_captions,
            images_of=lambda some: texts[some] @ images.T,
            texts_of=lambda some: images[some] @ texts.T,
        )

    def _by_score(self, model: ZeroShotModel, phases: Phases, rows: Sequence[int] | None) -> Compared:
        """Each different text is scored once for each picture: ``scores`` are ``[images, different texts]``."""
        score = model.score
        assert score is not None
        everything = range(len(self.images)) if rows is None else rows
        wanted = [self.images.dataset.target(row) for row in everything]
        tokens, place = self._tokenised(wanted, model.tokenizer)
        tokens = tokens.to(model.device)
        scores, captions = over_images(lambda some: score(some, tokens), self.images, model.device, phases, rows)
        image_captions, text_captions = numbered(captions, place, model.device)
        columns = text_captions.squeeze(1)
        return Compared(
            captions,
            image_captions,
            text_captions,
            images_of=lambda some: scores.T[columns[some]],
            texts_of=lambda some: scores[some][:, columns],
        )


def caption_ids(captions: list[list[str]], place: dict[str, int]) -> Tensor:
    """The position of each caption, int64 ``[images, most captions]``; -1 where an image has fewer captions."""
    ids = [torch.tensor([place[text] for text in of_image], dtype=torch.int64) for of_image in captions]
    return pad_sequence(ids, batch_first=True, padding_value=-1)


def numbered(captions: list[list[str]], place: dict[str, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The ids of the captions of each image, and those of all captions, ``[captions, 1]``, in the order of the set."""
    image_captions = caption_ids(captions, place).to(device)
    return image_captions, image_captions[image_captions >= 0].unsqueeze(1)


def recalls(ranks: dict[str, Tensor]) -> dict[str, float]:
    """Recalls and median ranks by the names of CLIP_benchmark. ``recall@k`` is the mean of both directions."""
    metrics = {f"{way}_recall@{k}": float((r < k).double().mean()) for way, r in ranks.items() for k in KS}
    metrics |= {f"{way}_median_rank": median_rank(r) for way, r in ranks.items()}
    return metrics | {f"recall@{k}": sum(metrics[f"{way}_recall@{k}"] for way in ranks) / len(ranks) for k in KS}


def retrieval_rows(captions: list[list[str]], image_retrieval: Found, text_retrieval: Found) -> dict[str, list[Any]]:
    """A row for each image. ``text_rank`` is the rank of its best caption; ``top_texts`` are the captions found for it, with
    ``top_text_scores``. For each of its captions there is ``image_rank``, and the rows found for the caption are
    ``top_images``, with ``top_image_scores``.
    """
    texts = [text for of_image in captions for text in of_image]
    ends = np.cumsum([len(of_image) for of_image in captions])[:-1]

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
