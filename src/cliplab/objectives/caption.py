"""Write the caption from the picture, word by word."""

import functools
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cliplab.models.caption_decoder import CaptionDecoder, Causal, OneByOne, Seen
from cliplab.models.clip import CLIP, Encoded
from cliplab.models.layers import Activation, pack_tokens
from cliplab.models.tokens import Tokens
from cliplab.objectives.decoding import DecoderObjective
from cliplab.objectives.objective import Loss, Pairs
from cliplab.objectives.scoring import pieces_of, trie_scores
from cliplab.objectives.trie import Trie
from cliplab.objectives.vocabulary import backwards
from cliplab.objectives.word_table import WordTable, started, word_loss
from cliplab.rules import Count, Decay, Natural, Positive, Share

Directions = Literal["forward", "both"]


class Caption(DecoderObjective):
    """A transformer decoder over the states of the image tower writes the caption.

    ``directions=forward`` is the first baseline of Radford et al. 2021, figure 2: a language model beside the image tower.
    ``directions=both`` is VirTex (Desai & Johnson 2021): a second decoder writes the caption backwards, and both share the
    vectors of words and positions. The losses of both are added.

    ``width``, ``layers`` and ``heads`` are those of the text tower where they are null (a head has 64 channels), which for
    CLIP's gives the 63 million parameters of the paper. VirTex has one layer of 1,024 with 16 heads and a dropout of 0.1.
    Different from the sources: LayerNorms are before attention and MLP, also before the states of the picture. The mean
    is over the words of the whole batch. Words enter and leave by the same vectors in either form. Tokens that the
    training captions do not have share a row of the output, see ``Vocabulary``.

    A score is the log-likelihood of the text, the end included; that of ``directions=both`` is the mean of both ways. With
    ``prior``, so many times the log-likelihood for a grey picture is subtracted (Lin et al. 2024, "Revisiting the role of
    language priors"). A class gets the mean score of its prompts.
    """

    reads = frozenset({"image_states"})

    def __init__(
        self,
        *,
        directions: Directions,
        width: Count | None,
        layers: Count | None,
        heads: Count | None,
        captions: Natural,
        mlp_ratio: Positive = 4.0,
        activation: Activation = "gelu",
        dropout: Decay = 0.0,
        prior: Share = 0.0,
    ) -> None:
        settings = {"mlp_ratio": mlp_ratio, "activation": activation, "dropout": dropout}
        super().__init__(width=width, layers=layers, heads=heads, captions=captions, **settings)
        if directions not in get_args(Directions):
            raise ValueError(f"objective.directions {directions!r} must be one of {', '.join(get_args(Directions))}")
        self.directions, self.prior = directions, prior

    def build_heads(self, model: CLIP) -> None:
        width, ways = self.build_table(model, ends=True), 2 if self.directions == "both" else 1
        self.decoders = nn.ModuleList(self.new_decoder(model, width) for _ in range(ways))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The vectors of words, then the layers, those of both directions together."""
        layers = [decoder.layer_groups() for decoder in self.decoders]  # type: ignore[operator]
        return [
            list(self.table.parameters()),
            *([p for one in both for p in one] for both in zip(*layers, strict=True)),
        ]

    def _ways(self, words: Tokens) -> list[tuple[CaptionDecoder, Tokens]]:
        """Each decoder with the words that it writes."""
        texts = [words, backwards(words)]
        return list(zip(self.decoders, texts[: len(self.decoders)], strict=True))  # type: ignore[arg-type]

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_states is not None
        memory = encoded.image_states.patches.flatten(1, 2)
        losses, figures = [], dict[str, Tensor]()
        for name, (decoder, words) in zip(("word", "backward_word"), self._ways(self._words(batch.tokens))):
            states, packing_index = self.states(decoder, memory, words)
            loss, accuracy = word_loss(self.table, states, words.ids.flatten()[packing_index])
            losses.append(loss)
            figures |= {f"{name}_loss": loss.detach(), f"{name}_accuracy": accuracy}
        return Loss(torch.stack(losses).sum(), figures)

    def _words(self, tokens: Tokens) -> Tokens:
        return self.vocabulary.words(tokens)

    def states(self, decoder: CaptionDecoder, memory: Tensor, words: Tokens) -> tuple[Tensor, Int[Tensor, " total"]]:
        """The states that ``words`` are written from, packed ``[total, width]``, and where each word stands in the padded
        texts."""
        inputs = started(words, self.table.rows)
        packing = pack_tokens(inputs)
        positions = packing.index % inputs.ids.shape[1]
        x = self.table.enter(inputs.ids.flatten()[packing.index], positions)
        return decoder(x, decoder.see(memory), Causal(packing)), packing.index

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """The log-likelihood of each text, minus its share of the prior."""
        total = self.likelihoods(self._memory(model, images), texts)
        if self.prior:
            grey = model.image_mean.expand(1, 3, model.image_size, model.image_size)
            total = total - self.prior * self.likelihoods(self._memory(model, grey), texts)
        return total

    def _memory(self, model: CLIP, images: Tensor) -> Float[Tensor, "images places width"]:
        return model.image_encoder.forward_states(model.normalised(images)).patches.flatten(1, 2).float()

    def likelihoods(self, memory: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """The log-likelihood of each text for the states of each picture; the mean of both directions."""
        with torch.autocast(memory.device.type, enabled=False):
            ways = self._ways(self._words(texts))
            return torch.stack([self._one_way(decoder, memory, words) for decoder, words in ways]).mean(0)

    def _one_way(self, decoder: CaptionDecoder, memory: Tensor, words: Tokens) -> Tensor:
        columns = []
        for part in pieces_of(words):
            trie = Trie(started(part, self.table.rows), part)
            decode = functools.partial(self._nodes, decoder, self.table.enter(trie.rows, trie.positions), trie)
            shares = self.vocabulary.shared_share(trie.edge_words)
            width = self.table.words.embedding_dim
            columns.append(trie_scores(memory, trie, decode=decode, table=self.table, width=width, extra=shares))
        return torch.cat(columns, dim=1)

    def _nodes(self, decoder: CaptionDecoder, x: Tensor, trie: Trie, memory: Tensor) -> Tensor:
        """The states of all nodes for some pictures. The first self-attention is the same for all of them."""
        return decoder(x.unsqueeze(0), decoder.see(memory), trie)

    def begin(self, model: CLIP, images: Tensor) -> "Writing":
        """Begin a caption for each picture, in the forward direction."""
        decoder = self.decoders[0]
        assert isinstance(decoder, CaptionDecoder)
        return Writing(decoder, self.table, decoder.see(self._memory(model, images)), len(images))


class Writing:
    """Captions under way: ``step`` takes their last words (None: the start) and gives the logits of the next ones."""

    def __init__(self, decoder: CaptionDecoder, table: WordTable, seen: list[Seen], texts: int) -> None:
        self.decoder, self.table, self.seen = decoder, table, seen
        self.layout, self.written, self.texts = OneByOne(), 0, texts

    def step(self, rows: Int[Tensor, " texts"] | None) -> Float[Tensor, "texts rows"]:
        device = self.table.bias.device
        rows = torch.full((self.texts,), self.table.rows, device=device) if rows is None else rows
        x = self.table.enter(rows, torch.full_like(rows, self.written)).unsqueeze(1)
        self.written += 1
        return self.table.logits(self.decoder(x, self.seen, self.layout)[:, 0]).float()

    def reorder(self, rows: Int[Tensor, " texts"]) -> None:
        """Go on with these of the captions; a caption may occur several times."""
        self.layout.reorder(rows)
        self.seen, self.texts = [seen.of(rows) for seen in self.seen], len(rows)
