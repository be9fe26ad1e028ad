"""Ways to write captions with a trained decoder: greedy, by beam search, or drawn from the nucleus."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cliplab.models.clip import CLIP
from cliplab.models.tokens import Tokenizer
from cliplab.objectives.objective import Objective
from cliplab.objectives.vocabulary import Vocabulary
from cliplab.objectives.weighted_sum import WeightedSum


class Underway(Protocol):
    """Captions under way: ``step`` takes their last words (None: the start) and gives the logits of the next ones."""

    def step(self, rows: Int[Tensor, " texts"] | None) -> Float[Tensor, "texts rows"]: ...

    def reorder(self, rows: Int[Tensor, " texts"]) -> None: ...


@runtime_checkable
class Writer(Protocol):
    """An objective that can write a caption. ``begin`` begins one for each picture."""

    vocabulary: Vocabulary

    def begin(self, model: CLIP, images: Tensor) -> Underway: ...


class Written(NamedTuple):
    """The rows of a caption, without its end, and its log-likelihood, with its end where it has one."""

    rows: list[int]
    log_likelihood: float


def writer_of(objective: Objective | None) -> Writer | None:
    """The objective, or the first part of a sum, that writes captions; None where none does."""
    parts: list[Any] = list(objective.parts.values()) if isinstance(objective, WeightedSum) else [objective]
    return next((part for part in parts if isinstance(part, Writer)), None)


def _next_words(logits: Tensor, vocabulary: Vocabulary) -> Float[Tensor, "texts rows"]:
    """Log-probabilities; a row that several tokens share cannot be written."""
    log_p = logits.log_softmax(-1)
    if vocabulary.others:
        log_p[:, -1] = float("-inf")
    return log_p


def beam_search(
    underway: Underway, vocabulary: Vocabulary, pictures: int, most: int, *, beams: int, length_penalty: float
) -> list[Written]:
    """The best of ``beams`` captions that are followed at once. One beam is greedy writing.

    Finished captions compare by their log-likelihood over their number of words to the power ``length_penalty``: 0 compares
    likelihoods, 1 means over words.
    """
    device = vocabulary.tokens.device
    end, first = vocabulary.end_row, torch.arange(pictures, device=device).repeat_interleave(beams)
    totals = torch.full((pictures, beams), float("-inf"), device=device)
    totals[:, 0] = 0  # at the start all beams are one
    done = torch.zeros(pictures, beams, dtype=torch.bool, device=device)
    texts = torch.zeros(pictures, beams, 0, dtype=torch.int64, device=device)
    underway.reorder(first)
    last = None
    for _ in range(most):
        log_p = _next_words(underway.step(last), vocabulary).view(pictures, beams, -1)
        log_p[done] = float("-inf")
        log_p[..., end] = torch.where(done, 0.0, log_p[..., end])  # a finished caption stays as it is
        best = (totals.unsqueeze(2) + log_p).flatten(1).topk(beams, dim=1)
        parents, words = best.indices // log_p.shape[2], best.indices % log_p.shape[2]
        totals = best.values
        texts = torch.cat(
            [texts.gather(1, parents.unsqueeze(2).expand(-1, -1, texts.shape[2])), words.unsqueeze(2)], dim=2
        )
        done = done.gather(1, parents) | (words == end)
        if done.all():
            break
        underway.reorder((torch.arange(pictures, device=device).unsqueeze(1) * beams + parents).flatten())
        last = words.flatten()
    lengths = (texts != end).sum(2) + 1
    chosen = (totals / lengths**length_penalty).argmax(1).tolist()
    return [_cut(texts[i, k].tolist(), end, float(totals[i, k])) for i, k in enumerate(chosen)]


def _cut(rows: list[int], end: int, log_likelihood: float) -> Written:
    return Written(rows[: rows.index(end)] if end in rows else rows, log_likelihood)


def nucleus(
    underway: Underway,
    vocabulary: Vocabulary,
    positions: list[int],
    most: int,
    *,
    top_p: float,
    temperature: float,
    seed: int,
) -> list[Written]:
    """Words drawn from the likeliest ones that together have the probability ``top_p`` (Holtzman et al. 2020).

    The draws of a picture follow ``seed`` and its position, whatever other pictures are in the batch.
    """
    draws = np.stack([np.random.default_rng([seed, position]).random(most) for position in positions])
    end = vocabulary.end_row
    totals = torch.zeros(len(positions), device=vocabulary.tokens.device)
    done = torch.zeros_like(totals, dtype=torch.bool)
    texts, last = [], None
    for turn in range(most):
        logits = underway.step(last)
        told = _next_words(logits, vocabulary)
        order = _next_words(logits / temperature, vocabulary).sort(-1, descending=True)
        share = order.values.exp()
        kept = share.cumsum(1) - share < top_p  # the word that passes the limit is the last one
        share = share.double() * kept
        draw = torch.from_numpy(draws[:, turn : turn + 1]).to(share.device) * share.sum(1, keepdim=True)
        place = (share.cumsum(1) <= draw).sum(1).clamp(max=share.shape[1] - 1)
        last = order.indices.gather(1, place.unsqueeze(1)).squeeze(1).masked_fill(done, end)
        totals += told.gather(1, last.unsqueeze(1)).squeeze(1).masked_fill(done, 0.0)
        texts.append(last)
        done |= last == end
        if done.all():
            break
    rows = torch.stack(texts, dim=1).tolist()
    return [_cut(row, end, total) for row, total in zip(rows, totals.tolist(), strict=True)]


class Method(Protocol):
    """Finishes captions under way for the pictures at these ``positions``, with at most so many words."""

    def __call__(
        self, underway: Underway, vocabulary: Vocabulary, positions: list[int], most: int
    ) -> list[Written]: ...


@dataclass(frozen=True)
class Greedy:
    """The likeliest word at each place."""

    def __call__(self, underway: Underway, vocabulary: Vocabulary, positions: list[int], most: int) -> list[Written]:
        return beam_search(underway, vocabulary, len(positions), most, beams=1, length_penalty=0.0)


@dataclass(frozen=True)
class Beam:
    """See ``beam_search``."""

    beams: int = 5
    length_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ValueError(f"task.beams {self.beams} must be 1 or more")

    def __call__(self, underway: Underway, vocabulary: Vocabulary, positions: list[int], most: int) -> list[Written]:
        beams = min(self.beams, vocabulary.rows)
        return beam_search(underway, vocabulary, len(positions), most, beams=beams, length_penalty=self.length_penalty)


@dataclass(frozen=True)
class Nucleus:
    """See ``nucleus``."""

    top_p: float = 0.9
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:
            raise ValueError(f"task.top_p {self.top_p} must lie above 0 and not above 1")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"task.temperature {self.temperature} must be above 0")

    def __call__(self, underway: Underway, vocabulary: Vocabulary, positions: list[int], most: int) -> list[Written]:
        settings = {"top_p": self.top_p, "temperature": self.temperature, "seed": self.seed}
        return nucleus(underway, vocabulary, positions, most, **settings)  # type: ignore[arg-type]


class Text(NamedTuple):
    """A caption as text, and its log-likelihood."""

    text: str
    log_likelihood: float


def write(
    writer: Writer,
    model: CLIP,
    tokenizer: Tokenizer,
    images: Tensor,
    method: Method,
    positions: list[int] | None = None,
    most_tokens: int | None = None,
) -> list[Text]:
    """A caption for each picture. ``positions`` number the pictures for what is drawn at random."""
    room = model.text_encoder.context_length - 1
    places = list(range(len(images))) if positions is None else positions
    written = method(writer.begin(model, images), writer.vocabulary, places, min(most_tokens or room, room))
    return [Text(tokenizer.text(writer.vocabulary.tokens[one.rows].tolist()), one.log_likelihood) for one in written]


def write_of(
    objective: Objective | None, model: CLIP, tokenizer: Tokenizer
) -> Callable[[Tensor, int], list[str]] | None:
    """What writes a caption for each picture, the best of so many beams; None where the objective writes none."""
    writer = writer_of(objective)
    if writer is None:
        return None
    return lambda images, beams: [one.text for one in write(writer, model, tokenizer, images, Beam(beams))]


METHODS: dict[str, type[Greedy] | type[Beam] | type[Nucleus]] = {"greedy": Greedy, "beam": Beam, "nucleus": Nucleus}
