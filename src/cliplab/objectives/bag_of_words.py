"""The words of the caption, predicted from the picture."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cliplab.models.clip import CLIP, Encoded
from cliplab.models.tokens import Tokens, real_columns
from cliplab.objectives.objective import Corpus, Loss, Objective, Pairs
from cliplab.objectives.words import frequent_words, places_of
from cliplab.rules import Count, Natural


class BagOfWords(Objective):
    """Predicts which words stand in the caption, from the embedding of the picture (Joulin et al. 2016).

    It is the multi-class form of the source, which found it to work better than one logistic loss for each word: a softmax
    over the dictionary, whose target is 1/K for each of the K different words of the caption. A caption without a word of
    the dictionary counts as 0. The bias of a word begins at the logarithm of its frequency: learned from 0, with the steps
    of Adam, the frequencies alone would take a large part of a short training.

    The dictionary holds the ``words`` most frequent tokens of at most ``captions`` training captions, without the
    ``skipped_words`` most frequent ones. The source takes 1,000 to 100,000 words, leaves out the 500 most frequent ones, and
    draws samples by word. Here samples come as they are, and words are the tokens of the text tower's tokenizer. The
    dictionary is saved in the checkpoint.
    """

    reads = frozenset({"image_embeds"})
    dictionary: Tensor  # tokens, int64 [words], sorted
    places: Tensor

    def __init__(self, *, words: Count, captions: Count, skipped_words: Natural = 0) -> None:
        super().__init__()
        self.words, self.captions, self.skipped_words = words, captions, skipped_words
        self.frequencies: Tensor | None = None  # the share of captions with each word, where they were read
        self.register_buffer("dictionary", torch.empty(0, dtype=torch.int64))

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        self.dictionary = state.get("dictionary", self.dictionary).clone()

    def prepare(self, corpus: Corpus) -> None:
        if not len(self.dictionary):
            found = frequent_words(corpus, captions=self.captions, words=self.words, skipped=self.skipped_words)
            self.dictionary, self.frequencies = torch.tensor(list(found)), torch.tensor(list(found.values()))

    def build_heads(self, model: CLIP) -> None:
        self.register_buffer("places", places_of(self.dictionary, model.text_encoder.vocab_size), persistent=False)
        self.width = model.embed_dim
        self.head = nn.Linear(model.embed_dim, len(self.dictionary))
        if self.frequencies is not None:
            with torch.no_grad():
                self.head.bias.copy_(self.first_bias(self.frequencies))

    def first_bias(self, frequencies: Float[Tensor, " words"]) -> Float[Tensor, " words"]:
        """The bias with which the prediction for any picture is that of the training captions."""
        return (frequencies / frequencies.sum()).log()

    def log_probabilities(self, images: Float[Tensor, "batch embed_dim"]) -> Float[Tensor, "batch words"]:
        """Of every word of the dictionary. A unit vector is scaled so that its values have a variance of 1."""
        return self.head(images * self.width**0.5).float().log_softmax(-1)

    def targets(self, tokens: Tokens) -> Float[Tensor, "batch words"]:
        """1/K at each of the K different words of a text, and 0 elsewhere."""
        rows, places = self._found(tokens)
        present = torch.zeros(len(tokens.ids), len(self.dictionary), device=tokens.ids.device)
        present[rows, places] = 1
        return present / present.sum(1, keepdim=True).clamp(min=1)

    def _found(self, tokens: Tokens) -> tuple[Int[Tensor, " found"], Int[Tensor, " found"]]:
        """The row and the place in the dictionary of every token that is in the dictionary."""
        places = self.places[tokens.ids].masked_fill(~real_columns(tokens.lengths, tokens.ids.shape[1]), -1)
        rows, columns = (places >= 0).nonzero(as_tuple=True)
        return rows, places[rows, columns]

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_embeds is not None
        log_p, targets = self.log_probabilities(encoded.image_embeds), self.targets(batch.tokens)
        loss = -(targets * log_p).sum(1).mean()
        best = targets.gather(1, log_p.argmax(1, keepdim=True)) > 0
        return Loss(loss, {"word_accuracy": best.float().mean()})

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """Minus the divergence of the prediction from the target of each text: the mean log-probability of its K different
        words plus log K. Without log K, a part of a name would score as high as the name. A text without a word of the
        dictionary gets the lowest log-probability that the picture gives to a word."""
        log_p = self.log_probabilities(model.encode_image(images))
        rows, places = self._found(texts)
        pairs = torch.stack([rows, places]).unique(dim=1)
        words = torch.zeros(len(texts.ids), device=log_p.device).index_add(
            0, pairs[0], torch.ones_like(pairs[0]).float()
        )
        size = (len(texts.ids), log_p.shape[1])
        weights = torch.sparse_coo_tensor(pairs, 1 / words[pairs[0]], size, is_coalesced=True, check_invariants=False)
        with torch.autocast(log_p.device.type, enabled=False):
            means = (weights @ log_p.T).T + words.clamp(min=1).log()  # [images, texts]
        return torch.where(words > 0, means, log_p.min(1, keepdim=True).values)
