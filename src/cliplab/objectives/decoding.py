"""What objectives with a decoder of words have in common: the rows of their output layer, and the sizes of the decoder."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cliplab.models.caption_decoder import CaptionDecoder
from cliplab.models.clip import CLIP
from cliplab.objectives.objective import Corpus, Objective
from cliplab.objectives.sizes import head_number
from cliplab.objectives.vocabulary import Vocabulary
from cliplab.objectives.word_table import WordTable


class WordObjective(Objective):
    """Predicts rows of a ``Vocabulary``, which is read from at most ``captions`` training captions and saved."""

    def __init__(self, captions: int) -> None:
        super().__init__()
        self.vocabulary = Vocabulary(captions)

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        self.vocabulary.adopt(state)

    def prepare(self, corpus: Corpus) -> None:
        self.vocabulary.prepare(corpus)


class DecoderObjective(WordObjective):
    """Has word vectors in ``table`` and decoders over the states of the image tower. Sizes that are None are those of the
    text tower; a head has 64 channels. ``settings`` are further ones of ``CaptionDecoder``."""

    def __init__(
        self, *, width: int | None, layers: int | None, heads: int | None, captions: int, **settings: Any
    ) -> None:
        super().__init__(captions)
        self.width, self.depth, self.heads, self.settings = width, layers, heads, settings

    def build_table(self, model: CLIP, *, ends: bool) -> int:
        """Make the table, with one more vector that only enters. ``ends`` says whether ends of texts are predicted. Returns
        its width."""
        text = model.text_encoder
        width = self.width or text.state_width
        self.vocabulary.build(text.vocab_size)
        self.table = WordTable(self.vocabulary.rows, width, text.context_length, extra=1)
        bias = self.vocabulary.first_bias(ends=ends)
        if bias is not None:
            with torch.no_grad():
                self.table.bias.copy_(bias)
        return width

    def new_decoder(self, model: CLIP, width: int) -> CaptionDecoder:
        return CaptionDecoder(
            width=width,
            memory_width=model.image_encoder.state_width,
            layers=self.depth or max(1, len(model.text_encoder.layers())),
            heads=self.heads or head_number(width),
            **self.settings,
        )
