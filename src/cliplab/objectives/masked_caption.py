"""Hidden words of the caption, predicted from its other words and from the picture."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
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
    lengths: Int[Tensor, " batch"], epochs: Tensor, indices: Tensor, *, seed: int, share: float
) -> Bool[Tensor, "batch length"]:
    """Which words of each text are hidden: each with the probability ``share``, and at least one of them.

    It follows ``seed``, ``epochs`` and ``indices`` alone, so it is the same on any rank and after a resume.
    """
    rows = []
    for length, epoch, index in zip(lengths.tolist(), epochs.tolist(), indices.tolist(), strict=True):
        rng = np.random.default_rng([seed, epoch, index])
        row = rng.random(length) < share
        if length:
            row[rng.integers(length)] = True
        rows.append(torch.from_numpy(row))
    return pad_sequence(rows, batch_first=True)


class MaskedCaption(DecoderObjective):
    """Predicts words that are hidden in the caption from the rest of it and from the states of the image tower.

    It is the transformer form of ICMLM (Sariyildiz et al. 2020): of each caption one word is hidden, or with ``share`` more
    of them at random. Which ones follows the sample's own seed. Different from the source: the text tower of the source is
    a pretrained BERT that stays fixed, here word vectors are learned. In the source, words and places of the picture attend
    to each other in one sequence; here words attend to words and then to the picture. Any word may be hidden; in the source
    it is a frequent noun, adjective or verb. Its tag prediction is ``objective=tags``; ``objective=sum`` adds both.

    A score is the log-likelihood of a text: of the number of its words, which is predicted from the mean of the states of
    the picture, and of the words when all of them are hidden and their number is known, which costs one sequence for each
    number (Ghazvininejad et al. 2019, "Mask-predict"). Without the number, names of different lengths could not be
    compared. Its cross-entropy is added to the loss, and gives the image tower no gradient. With a ``share`` of 0 training
    shows no texts with all words hidden; a large share fits scores better.
    """

    reads = frozenset({"image_states"})

    def __init__(
        self,
        *,
        seed: Seed,
        share: Share,
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
        self.length = nn.Linear(model.image_encoder.state_width, model.text_encoder.context_length)
        bias = self.vocabulary.first_lengths(self.length.out_features)
        if bias is not None:
            with torch.no_grad():
                self.length.bias.copy_(bias)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The vectors of words, then the layers; the prediction of the number of words is with the last one."""
        layers = self.decoder.layer_groups()
        return [list(self.table.parameters()), *layers[:-1], [*layers[-1], *self.length.parameters()]]

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
        memory = encoded.image_states.patches.flatten(1, 2)
        states = self.states(memory, Tokens(ids, words.lengths), hidden)
        loss, accuracy = word_loss(self.table, states, ids[hidden])
        of_number = F.nll_loss(self.log_numbers(memory.detach()), words.lengths - 1)
        figures = {"word_loss": loss.detach(), "word_accuracy": accuracy, "number_loss": of_number.detach()}
        return Loss(loss + of_number, figures)

    def log_numbers(self, memory: Float[Tensor, "images places width"]) -> Float[Tensor, "images numbers"]:
        """The log-probability of each number of words, from 1 on, for the states of each picture."""
        return self.length(memory.mean(1)).float().log_softmax(-1)

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
        """The log-likelihood of each text: of the number of its words, and of the words."""
        words = self._words(texts)
        patches = model.image_encoder.forward_states(model.normalised(images)).patches
        scores = patches.new_empty(len(images), len(texts.ids), dtype=torch.float32)
        with torch.autocast(patches.device.type, enabled=False):
            memory = patches.flatten(1, 2).float()
            numbers = self.log_numbers(memory)
            for length in words.lengths.unique().tolist():
                rows = (words.lengths == length).nonzero()[:, 0]
                scores[:, rows] = self._of_length(memory, words.ids[rows, :length]) + numbers[:, length - 1, None]
        return scores

    def _of_length(self, memory: Tensor, ids: Int[Tensor, "texts length"]) -> Float[Tensor, "images texts"]:
        """The log-likelihood of the words of texts that have the same number of them."""
        length = ids.shape[1]
        parts = []
        for piece in memory.split(
            max(1, AT_ONCE // (length * max(4 * self.table.words.embedding_dim, self.table.rows)))
        ):
            blank = Tokens(torch.zeros(len(piece), length).to(ids), torch.full((len(piece),), length).to(ids))
            states = self.states(piece, blank, torch.ones_like(blank.ids, dtype=torch.bool))
            log_p = self.table.logits(states).log_softmax(-1).view(len(piece), length, -1)
            total = [log_p[:, place, ids[:, place]] for place in range(length)]
            parts.append(torch.stack(total).sum(0) + self.vocabulary.shared_share(ids).sum(1))
        return torch.cat(parts)
