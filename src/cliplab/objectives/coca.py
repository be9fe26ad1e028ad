"""The caption decoder of CoCa, on top of the text tower."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cliplab.models.caption_decoder import CaptionDecoder, Causal, OneByOne, Seen
from cliplab.models.clip import CLIP, Encoded
from cliplab.models.layers import Activation, pack_tokens
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens
from cliplab.objectives.decoding import WordObjective
from cliplab.objectives.objective import Corpus, Loss, Pairs
from cliplab.objectives.scoring import pieces_of, trie_scores
from cliplab.objectives.trie import Trie
from cliplab.objectives.vocabulary import NONE
from cliplab.objectives.word_table import OutputLayer, word_loss
from cliplab.rules import Count, Natural, Positive


class CocaCaption(WordObjective):
    """Layers with cross-attention on top of the states of the causal text tower write the caption (Yu et al. 2022, CoCa).

    With ``objective=coca`` it is added to the contrastive loss, at the source's weights of 2 and 1. A layer is a
    self-attention with its MLP and a cross-attention with its MLP. ``layers`` null takes as many as the text tower has, the
    source's halves. Different from the source: the decoder sees the states of the image tower as they are, without
    attentional pooling to 256 queries, and the text tower pools at the end of the text instead of a token after it. Tokens
    that the training captions do not have share a row of the output, see ``Vocabulary``.

    Where the contrastive loss is left out (``objective.weights.clip=0``), texts are compared by their log-likelihood.
    Raises ValueError for a text tower in which words see later words.
    """

    reads = frozenset({"image_states", "text_states"})

    def __init__(
        self,
        *,
        layers: Count | None,
        heads: Count | None,
        captions: Natural,
        mlp_ratio: Positive = 4.0,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__(captions)
        self.depth, self.heads, self.mlp_ratio, self.activation = layers, heads, mlp_ratio, activation

    def prepare(self, corpus: Corpus) -> None:
        super().prepare(corpus)
        if int(self.vocabulary.marks[0]) == NONE:
            raise ValueError("objective=coca needs a tokenizer that begins each text with a token, such as CLIP's")

    def build_heads(self, model: CLIP) -> None:
        text = model.text_encoder
        if not isinstance(text, TextTransformer):
            raise ValueError(
                f"objective=coca needs a causal text tower, and words of {type(text).__name__} see later words; "
                "add model/text_encoder=clip_text"
            )
        self.vocabulary.build(text.vocab_size)
        self.output = OutputLayer(self.vocabulary.rows, text.state_width)
        self.decoder = CaptionDecoder(
            width=text.state_width,
            memory_width=model.image_encoder.state_width,
            layers=self.depth or len(text.blocks),
            heads=self.heads or text.blocks[0].attention.heads,  # type: ignore[union-attr,arg-type]
            mlp_ratio=self.mlp_ratio,
            activation=self.activation,
            mlp_between=True,
        )

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The layers, then the output."""
        return [*self.decoder.layer_groups(), [self.output.weight]]

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_states is not None
        assert encoded.text_states is not None
        words = self.vocabulary.words(batch.tokens)
        states = encoded.text_states.tokens[:, : words.ids.shape[1]]
        packing = pack_tokens(words)
        seen = self.decoder.see(encoded.image_states.patches.flatten(1, 2))
        x = self.decoder(packing.pack(states), seen, Causal(packing))
        loss, accuracy = word_loss(self.output, x, words.ids.flatten()[packing.index])
        return Loss(loss, {"word_accuracy": accuracy})

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """The log-likelihood of each text, the end included."""
        memory = model.image_encoder.forward_states(model.normalised(images)).patches.flatten(1, 2)
        with torch.autocast(memory.device.type, enabled=False):
            return torch.cat([self._scores(model, memory.float(), part) for part in pieces_of(texts)], dim=1)

    def _scores(self, model: CLIP, memory: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        words = self.vocabulary.words(texts)
        inputs = Tokens(texts.ids[:, : words.ids.shape[1]], words.lengths)
        trie = Trie(inputs, words)
        states = model.text_encoder.forward_states(inputs).tokens.float().flatten(0, 1)
        x = states[trie.first].unsqueeze(0)
        return trie_scores(
            memory,
            trie,
            decode=lambda piece: self.decoder(x, self.decoder.see(piece), trie),
            table=self.output,
            width=x.shape[-1],
            extra=self.vocabulary.shared_share(trie.edge_words),
        )

    def begin(self, model: CLIP, images: Tensor) -> "CocaWriting":
        """Begin a caption for each picture."""
        memory = model.image_encoder.forward_states(model.normalised(images)).patches.flatten(1, 2)
        return CocaWriting(self, model, self.decoder.see(memory), len(images))


class CocaWriting:
    """Captions under way, see ``Writing``. The text tower runs anew over what is written; the decoder on top keeps its keys
    and values."""

    def __init__(self, objective: CocaCaption, model: CLIP, seen: list[Seen], texts: int) -> None:
        self.objective, self.model, self.seen, self.layout = objective, model, seen, OneByOne()
        start = int(objective.vocabulary.marks[0])
        self.ids = torch.full((texts, 1), start, device=objective.output.weight.device)

    def step(self, rows: Int[Tensor, " texts"] | None) -> Float[Tensor, "texts rows"]:
        if rows is not None:
            self.ids = torch.cat([self.ids, self.objective.vocabulary.tokens[rows].unsqueeze(1)], dim=1)
        lengths = torch.full_like(self.ids[:, 0], self.ids.shape[1])
        states = self.model.text_encoder.forward_states(Tokens(self.ids, lengths)).tokens[:, -1:]
        return self.objective.output.logits(self.objective.decoder(states, self.seen, self.layout)[:, 0]).float()

    def reorder(self, rows: Int[Tensor, " texts"]) -> None:
        """Go on with these of the captions."""
        self.ids = self.ids[rows]
        self.layout.reorder(rows)
        self.seen = [seen.of(rows) for seen in self.seen]
