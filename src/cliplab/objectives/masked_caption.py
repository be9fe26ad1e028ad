"""Hidden words of the caption, predicted from its other words and from the picture."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cliplab.models.caption_decoder import Mutual
from cliplab.models.clip import CLIP, Encoded
from cliplab.models.layers import Activation, pack_tokens
from cliplab.models.tokens import Tokens
from cliplab.objectives.decoding import DecoderObjective
from cliplab.objectives.objective import Loss, Pairs
from cliplab.objectives.word_table import word_loss
from cliplab.rules import Count, Decay, Natural, Positive, Seed, Share

AT_ONCE = 2**22  # values of an MLP over all words of some pictures


def hidden_words(
    lengths: Int[Tensor, " batch"], epochs: Tensor, indices: Tensor, *, seed: int, share: float | None
) -> Bool[Tensor, "batch length"]:
    """Which words of each text are hidden: each with the probability ``share``, and at least one of them. Without a share
    any number of words, from one to all, is equally likely.

    It follows ``seed``, ``epochs`` and ``indices`` alone, so it is the same on any rank and after a resume.
    """
    rows = []
    for length, epoch, index in zip(lengths.tolist(), epochs.tolist(), indices.tolist(), strict=True):
        rng = np.random.default_rng([seed, epoch, index])
        row = rng.random(length) < (share or 0)
        if length:
            first = rng.integers(length)
            row[first if share is not None else rng.permutation(length)[: first + 1]] = True
        rows.append(torch.from_numpy(row))
    return pad_sequence(rows, batch_first=True)


class MaskedCaption(DecoderObjective):
    """Predicts words that are hidden in the caption from the rest of it and from the states of the image tower.

    It is the transformer form of ICMLM (Sariyildiz et al. 2020): of each caption one word is hidden, or with ``share`` more
    of them at random. With null any number of words is equally likely (Ghazvininejad et al. 2019, "Mask-predict"). Which
    ones follows the sample's own seed. Different from the source: the text tower of the source is
    a pretrained BERT that stays fixed, here word vectors are learned. In the source, words and places of the picture attend
    to each other in one sequence; here words attend to words and then to the picture. Any word may be hidden; in the source
    it is a frequent noun, adjective or verb. Its tag prediction is ``objective=tags``; ``objective=sum`` adds both.

    A score is the mean log-probability of the words of a text when all of them are hidden and their number is known, which
    costs one sequence for each length. A ``share`` below 1 hardly shows such texts in training, unlike null. The mean ranks
    names of different lengths better than the sum with a predicted number of words: words that are predicted each by
    itself make long names less likely than they are.
    """

    reads = frozenset({"image_states"})

    def __init__(
        self,
        *,
        seed: Seed,
        share: Share | None,
        width: Count | None,
        layers: Count | None,
        heads: Count | None,
        captions: Natural,
        mlp_ratio: Positive = 4.0,
        activation: Activation = "gelu",
        dropout: Decay = 0.0,
    ) -> None:
        settings = {"mlp_ratio": mlp_ratio, "activation": activation, "dropout": dropout}
        super().__init__(width=width, layers=layers, heads=heads, captions=captions, **settings)
        self.seed, self.share = seed, share

    def build_heads(self, model: CLIP) -> None:
        width = self.build_table(model, ends=False)  # its further vector hides a word
        self.decoder = self.new_decoder(model, width)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The vectors of words, then the layers."""
        return [list(self.table.parameters()), *self.decoder.layer_groups()]

    def _words(self, tokens: Tokens) -> Tokens:
        """The words of each text without its end; an empty text is its end alone."""
        words = self.vocabulary.words(tokens)
        return words._replace(lengths=(words.lengths - 1).clamp(min=1))

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_states is not None
        words = self._words(batch.tokens)
        hidden = hidden_words(words.lengths, batch.epochs, batch.indices, seed=self.seed, share=self.share)
        hidden = hidden.to(words.ids.device)
        ids = words.ids[:, : hidden.shape[1]]
        states = self.states(encoded.image_states.patches.flatten(1, 2), Tokens(ids, words.lengths), hidden)
        loss, accuracy = word_loss(self.table, states, ids[hidden])
        return Loss(loss, {"word_accuracy": accuracy})

    def states(
        self, memory: Tensor, words: Tokens, hidden: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "found width"]:
        """The states of the hidden words, text after text."""
        packing = pack_tokens(words)
        ids = words.ids.masked_fill(hidden, self.table.rows).flatten()[packing.index]
        x = self.table.enter(ids, packing.index % words.ids.shape[1])
        x = self.decoder(x, self.decoder.see(memory), Mutual(packing, words.lengths))
        return x[hidden.flatten()[packing.index]]

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """The mean log-probability of the words of each text, from the number of its words and the picture."""
        words = self._words(texts)
        patches = model.image_encoder.forward_states(model.normalised(images)).patches
        scores = patches.new_empty(len(images), len(texts.ids), dtype=torch.float32)
        with torch.autocast(patches.device.type, enabled=False):
            memory = patches.flatten(1, 2).float()
            for length in words.lengths.unique().tolist():
                rows = (words.lengths == length).nonzero()[:, 0]
                scores[:, rows] = self._of_length(memory, words.ids[rows, :length])
        return scores

    def _of_length(self, memory: Tensor, ids: Int[Tensor, "texts length"]) -> Float[Tensor, "images texts"]:
        length = ids.shape[1]
        parts = []
        for piece in memory.split(
            max(1, AT_ONCE // (length * max(4 * self.table.words.embedding_dim, self.table.rows)))
        ):
            blank = Tokens(torch.zeros(len(piece), length).to(ids), torch.full((len(piece),), length).to(ids))
            states = self.states(piece, blank, torch.ones_like(blank.ids, dtype=torch.bool))
            log_p = self.table.logits(states).log_softmax(-1).view(len(piece), length, -1)
            total = [log_p[:, place, ids[:, place]] for place in range(length)]
            parts.append(torch.stack(total).mean(0) + self.vocabulary.shared_share(ids).mean(1))
        return torch.cat(parts)
