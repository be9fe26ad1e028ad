"""The caption word by word from the picture, with phrases of several words: Visual N-Grams."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cliplab.models.clip import CLIP, Encoded
from cliplab.models.tokens import Tokens, real_columns
from cliplab.objectives.objective import Corpus, Loss, Objective, Pairs
from cliplab.objectives.words import captions_in_words, places_of
from cliplab.rules import Count, Share

TEXTS_AT_ONCE = 2048


def counted_ngrams(corpus: Corpus, *, captions: int, longest: int, least: int, most: int) -> dict[tuple[int, ...], int]:
    """The ``most`` frequent phrases of up to ``longest`` words that stand in the captions at least ``least`` times. With a
    phrase its beginning is there, too. Sorted by length, then by words, with their counts. Raises ValueError when there is
    none."""
    counts = Counter[tuple[int, ...]]()
    for words in captions_in_words(corpus, captions):
        for n in range(1, longest + 1):
            counts.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    frequent = [ngram for ngram, count in counts.items() if count >= least]
    if not frequent:
        raise ValueError(
            f"the training captions have {len(counts)} phrases, and none of them {least} times; lower objective.least"
        )
    kept = sorted(frequent, key=lambda ngram: (-counts[ngram], len(ngram), ngram))[:most]
    return {ngram: counts[ngram] for ngram in sorted(kept, key=lambda ngram: (len(ngram), ngram))}


def as_keys(ngrams: Sequence[tuple[int, ...]], vocab_size: int) -> Int[Tensor, " ngrams"]:
    """The dictionary as one number for each n-gram, ascending: (1 + the number of its beginning) * vocab_size + its last
    word. The empty beginning has the number -1."""
    number = {(): -1} | {ngram: i for i, ngram in enumerate(ngrams)}
    return torch.tensor([(1 + number[ngram[:-1]]) * vocab_size + ngram[-1] for ngram in ngrams])


class Phrases(nn.Module):
    """The n-grams of a dictionary, found by their beginnings. ``keys`` are those of ``as_keys``."""

    keys: Tensor
    begins: Tensor  # of each n-gram, 1 + the number of its beginning
    followed: Tensor  # bool: whether an n-gram begins another

    def __init__(self, keys: Int[Tensor, " ngrams"], vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.register_buffer("keys", keys.clone(), persistent=False)
        begins = keys // vocab_size
        self.register_buffer("begins", begins, persistent=False)
        self.register_buffer(
            "followed", torch.zeros(len(keys) + 1, dtype=torch.bool).index_fill(0, begins, True), False
        )

    def number(self, beginning: Int[Tensor, "..."], word: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """The number of the n-gram of a beginning (-1: the empty one, -2: none) and a word; -2 where it is not there."""
        key = (beginning + 1) * self.vocab_size + word
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return torch.where((self.keys[place] == key) & (beginning > -2), place, -2)

    def conditional(self, logits: Float[Tensor, "batch ngrams"]) -> Float[Tensor, "batch ngrams"]:
        """Of each n-gram the log-probability of its last word after its beginning, among all n-grams with this beginning."""
        groups = self.begins.expand_as(logits)
        size = (len(logits), len(self.keys) + 1)
        highest = logits.new_full(size, float("-inf")).scatter_reduce(1, groups, logits.detach(), "amax")
        shifted = logits - highest.gather(1, groups)
        total = logits.new_zeros(size).scatter_add(1, groups, shifted.exp())
        return shifted - total.gather(1, groups).log()


class NGrams(Objective):
    """Predicts each word of the caption from the picture and the words before it (Li et al. 2017, Visual N-Grams).

    Each n-gram of a dictionary gets a logit from the embedding of the picture. The likelihood of a word after the n - 1
    words before it is smoothed as by Jelinek and Mercer: ``smoothing`` times the share of the n-gram among those that begin
    with the same words, plus the rest times the smoothed likelihood after n - 2 words, down to the share of the word alone.
    Where no n-gram begins with these words, the shorter beginning decides alone. The likelihoods of all words after a
    beginning add up to 1. The loss of a caption is the negative sum of the logarithms over its words that are known.

    The source takes 142,806 n-grams of up to 5 words that stand at least 1,000 times in its captions, and a smoothing of
    0.2. It takes the likelihood of an n-gram among all n-grams of any length; here it is among those with the same
    beginning, so that the smoothed likelihoods are a distribution. The dictionary is made from at most ``captions`` training
    captions and is saved in the checkpoint.
    """

    reads = frozenset({"image_embeds"})
    dictionary: Tensor  # int64 [ngrams], see as_keys
    places: Tensor

    def __init__(self, *, longest: Count, least: Count, ngrams: Count, captions: Count, smoothing: Share) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"objective.smoothing {smoothing} must be 0 or more and below 1; the source takes 0.2")
        self.longest, self.least, self.ngrams, self.captions = longest, least, ngrams, captions
        self.smoothing = smoothing
        self._found: dict[tuple[int, ...], int] = {}
        self.register_buffer("dictionary", torch.empty(0, dtype=torch.int64))

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        self.dictionary = state.get("dictionary", self.dictionary).clone()

    def prepare(self, corpus: Corpus) -> None:
        if not len(self.dictionary):
            self._found = counted_ngrams(
                corpus, captions=self.captions, longest=self.longest, least=self.least, most=self.ngrams
            )

    def build_heads(self, model: CLIP) -> None:
        vocab_size = model.text_encoder.vocab_size
        if self._found:
            self.dictionary = as_keys(list(self._found), vocab_size)
        self.phrases = Phrases(self.dictionary, vocab_size)
        words = self.dictionary[self.dictionary < vocab_size]
        self.register_buffer("places", places_of(words, vocab_size), persistent=False)
        self.width = model.embed_dim
        self.head = nn.Linear(model.embed_dim, len(self.dictionary))
        if self._found:  # the first prediction is that of the captions
            with torch.no_grad():
                self.head.bias.copy_(torch.tensor(list(self._found.values())).log())

    def likelihoods(
        self, tokens: Tokens, share: Callable[[Tensor], Tensor]
    ) -> tuple[Float[Tensor, "... texts length"], Bool[Tensor, "texts length"]]:
        """The smoothed log-likelihood of each word, and which words are in the dictionary; others have 0. ``share`` gives
        the log-probability of the last word of n-grams after their beginnings, for their numbers ``[texts, length]``."""
        ids, known = tokens.ids, (self.places[tokens.ids] >= 0) & real_columns(tokens.lengths, tokens.ids.shape[1])
        beginning = torch.full_like(ids, -1)  # of the n-gram that ends at each word; the empty one for n = 1
        likelihood: Tensor | float = 0.0
        for n in range(1, self.longest + 1):
            number = torch.where(known, self.phrases.number(beginning, ids), -2)  # [texts, length]
            of_ngram = share(number.clamp(min=0)).exp() * (number >= 0)
            follows = (beginning >= -1) & self.phrases.followed[(beginning + 1).clamp(min=0)]
            mixed = self.smoothing * of_ngram + (1 - self.smoothing) * likelihood if n > 1 else of_ngram
            likelihood = torch.where(follows, mixed, likelihood)
            beginning = torch.cat([torch.full_like(number[:, :1], -2), number[:, :-1]], dim=1)
        assert isinstance(likelihood, Tensor)
        tiny = torch.finfo(likelihood.dtype).tiny
        return likelihood.clamp(min=tiny).log().masked_fill(~known, 0), known

    def _log_shares(self, images: Float[Tensor, "images embed_dim"]) -> Float[Tensor, "images ngrams"]:
        return self.phrases.conditional(self.head(images * self.width**0.5).float())

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_embeds is not None
        shares = self._log_shares(encoded.image_embeds)
        words, known = self.likelihoods(batch.tokens, lambda numbers: shares.gather(1, numbers))
        return Loss(-words.sum(1).mean(), {"known_words": known.sum() / (known.sum(1) > 0).sum().clamp(min=1)})

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """The mean log-likelihood of the words of each text that are in the dictionary. A text without any gets the lowest
        score that the picture gives to another text, or 0."""
        shares, parts = self._log_shares(model.encode_image(images)), []
        for start in range(0, len(texts.ids), TEXTS_AT_ONCE):
            part = Tokens(texts.ids[start : start + TEXTS_AT_ONCE], texts.lengths[start : start + TEXTS_AT_ONCE])

            def share(numbers: Tensor) -> Tensor:
                return shares[:, numbers.flatten()].unflatten(1, numbers.shape)

            words, known = self.likelihoods(part, share)
            mean = words.sum(2) / known.sum(1).clamp(min=1)
            parts.append(mean.masked_fill(known.sum(1) == 0, float("inf")))
        scores = torch.cat(parts, dim=1)
        lowest = scores.min(1, keepdim=True).values.nan_to_num(posinf=0)
        return torch.where(scores.isinf(), lowest, scores)
