"""Words of captions as token ids: which of them stand for text, and which are frequent."""

from collections import Counter
from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from cliplab.models.tokens import Tokenizer
from cliplab.objectives.objective import Corpus

AT_ONCE = 1000  # captions that are tokenised together


def special_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that stand in every text, such as its start, its end and its padding: those of the empty text."""
    tokens = tokenizer([""])
    return frozenset(tokens.ids[0, : int(tokens.lengths[0])].tolist())


def captions_in_words(corpus: Corpus, captions: int) -> Iterator[list[int]]:
    """The words of at most so many training captions, one list each, without special tokens. The tokenizer's count of texts
    that it cut stays as it was. Raises ValueError at the end when there was no word."""
    found = False
    for words in _tokenised(corpus, captions):
        found = found or bool(words)
        yield words
    if not found:
        raise ValueError("the training captions have no words; check data.train.caption_columns")


def _tokenised(corpus: Corpus, captions: int) -> Iterator[list[int]]:
    special, cut = special_tokens(corpus.tokenizer), corpus.tokenizer.truncated
    waiting: list[str] = []
    for caption in corpus.captions(captions):
        waiting.append(caption)
        if len(waiting) == AT_ONCE:
            yield from _words(corpus.tokenizer, waiting, special)
            waiting = []
    if waiting:
        yield from _words(corpus.tokenizer, waiting, special)
    corpus.tokenizer.truncated = cut


def _words(tokenizer: Tokenizer, texts: list[str], special: frozenset[int]) -> Iterator[list[int]]:
    tokens = tokenizer(texts)
    for row, length in zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True):
        yield [token for token in row[:length] if token not in special]


def frequent_words(corpus: Corpus, *, captions: int, words: int, skipped: int) -> dict[int, float]:
    """The tokens that stand in most captions, at most ``words`` of them, after the ``skipped`` most frequent ones, and the
    share of captions that have each. They are sorted by id. Raises ValueError when none is left."""
    counted, number = Counter[int](), 0
    for caption in captions_in_words(corpus, captions):
        counted.update(set(caption))
        number += 1
    ranked = sorted(counted, key=lambda token: (-counted[token], token))[skipped : skipped + words]
    if not ranked:
        raise ValueError(
            f"the training captions have {len(counted)} different words, and objective.skipped_words {skipped} leaves none; "
            "lower it, or check data.train.caption_columns"
        )
    return {token: counted[token] / number for token in sorted(ranked)}


def places_of(dictionary: Int[Tensor, " words"], vocab_size: int) -> Int[Tensor, " vocabulary"]:
    """For each token its place in the dictionary, or -1."""
    places = torch.full((vocab_size,), -1, dtype=torch.int64, device=dictionary.device)
    places[dictionary] = torch.arange(len(dictionary), device=dictionary.device)
    return places
