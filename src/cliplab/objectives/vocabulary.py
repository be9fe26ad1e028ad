"""The words that a decoder writes: rows of an output layer for tokens of the text tower's tokenizer."""

import math
from collections import Counter
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cliplab.models.tokens import Tokenizer, Tokens
from cliplab.objectives.objective import Corpus
from cliplab.objectives.words import captions_in_words, places_of

NONE = -1


def marks_of(tokenizer: Tokenizer) -> tuple[int, int]:
    """The token that begins every text, or ``NONE``, and the token that ends it."""
    before = tokenizer.truncated
    empty, letter = (list(_row(tokenizer, text)) for text in ("", "a"))
    tokenizer.truncated = before
    begins = len(empty) > 1 and empty[0] == letter[0]
    return (empty[0], empty[1]) if begins else (NONE, empty[0])


def _row(tokenizer: Tokenizer, text: str) -> list[int]:
    tokens = tokenizer([text])
    return tokens.ids[0, : int(tokens.lengths[0])].tolist()


class Vocabulary(nn.Module):
    """A row for each token of the training captions, and one row that all other tokens share.

    Tokens that training never shows would all be learned to be unlikely, each by a row of its own: with 49,408 tokens and
    short captions that is most of the work. The probability of the shared row is divided among its tokens evenly, so the
    probabilities of all tokens still add up to 1. ``captions`` is how many training captions are read at most; 0 gives each
    token its own row, without reading. The rows are saved in the checkpoint.
    """

    tokens: Tensor  # int64 [rows of one token], sorted
    marks: Tensor  # int64: the tokens that begin and end a text
    places: Tensor

    def __init__(self, captions: int) -> None:
        super().__init__()
        self.captions = captions
        self.counts: Tensor | None = None  # of each token in the captions, where they were read
        self.register_buffer("tokens", torch.empty(0, dtype=torch.int64))
        self.register_buffer("marks", torch.tensor([NONE, NONE]))

    def adopt(self, state: Mapping[str, Tensor], prefix: str = "vocabulary.") -> None:
        self.tokens = state.get(f"{prefix}tokens", self.tokens).clone()
        self.marks = state.get(f"{prefix}marks", self.marks).clone()

    def prepare(self, corpus: Corpus) -> None:
        self.marks = torch.tensor(marks_of(corpus.tokenizer))
        if self.captions and not len(self.tokens):
            counted, number = Counter[int](), 0
            for words in captions_in_words(corpus, self.captions):
                counted.update(words)
                number += 1
            counted[int(self.marks[1])] = max(1, number)
            self.tokens = torch.tensor(sorted(counted))
            self.counts = torch.tensor([float(counted[token]) for token in self.tokens.tolist()])

    def build(self, vocab_size: int) -> None:
        """Raises ValueError when the tokenizer has more tokens than the text tower."""
        if not self.captions:
            self.tokens = torch.arange(vocab_size)
        if len(self.tokens) and int(self.tokens[-1]) >= vocab_size:
            raise ValueError(f"token {int(self.tokens[-1])} reached a text tower with {vocab_size} tokens")
        places = places_of(self.tokens, vocab_size)
        self.others = vocab_size - len(self.tokens)
        self.register_buffer("places", places.masked_fill(places < 0, len(self.tokens)), persistent=False)
        self.begins, self.end = int(self.marks[0]) != NONE, int(self.marks[1])

    def _load_from_state_dict(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(*arguments)
        self.begins, self.end = int(self.marks[0]) != NONE, int(self.marks[1])

    @property
    def rows(self) -> int:
        """The rows of the output layer."""
        return len(self.tokens) + (self.others > 0)

    def first_bias(self, *, ends: bool) -> Float[Tensor, " rows"] | None:
        """The logarithms of the frequencies in the training captions, so that a decoder begins by predicting those: learned
        from 0, with the steps of Adam, they alone would take a large part of a short training. The shared row, and with
        ``ends=False`` the end, count as met once. None where the captions were not read."""
        if self.counts is None:
            return None
        counts = torch.cat([self.counts, self.counts.new_ones(self.rows - len(self.counts))])
        if not ends:
            counts[self.end_row] = 1
        return (counts / counts.sum()).log()

    @property
    def end_row(self) -> int:
        return int(self.places[self.end])

    def shared_share(self, rows: Int[Tensor, " *shape"]) -> Tensor:
        """What a token of a row gets of the logarithm of the row's probability: 0, or less where tokens share the row."""
        each = -math.log(self.others) if self.others else 0.0
        return torch.where(rows == len(self.tokens), each, 0.0)

    def words(self, tokens: Tokens) -> Tokens:
        """Texts as rows of the vocabulary, up to their end and with it, without the token that begins them."""
        ids, lengths = tokens.ids, tokens.lengths
        if self.begins:
            ids, lengths = ids[:, 1:], lengths - 1
        ends = ids == self.end
        lengths = torch.where(ends.any(1), lengths.minimum(ends.int().argmax(1) + 1), lengths)
        return Tokens(self.places[ids], lengths)


def backwards(words: Tokens) -> Tokens:
    """The words of each text in the opposite order; the end stays last."""
    position = torch.arange(words.ids.shape[1], device=words.ids.device).expand_as(words.ids)
    last = words.lengths.unsqueeze(1) - 1
    return words._replace(
        ids=words.ids.gather(1, torch.where(position < last, last - 1 - position, position)), places=None
    )
