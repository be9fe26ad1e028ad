"""A small CLIP and a batch for objectives with heads."""

from typing import NamedTuple

import torch
from torch import Tensor

from cliplab.models.clip import CLIP
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens
from cliplab.models.vision_transformer import VisionTransformer


class Pairs(NamedTuple):
    images: Tensor
    tokens: Tokens
    groups: Tensor
    epochs: Tensor
    indices: Tensor
    captions: list[str]

    def rows(self, part: slice) -> "Pairs":
        """The share of a rank. Its texts are padded to the longest of them."""
        lengths = self.tokens.lengths[part]
        ids = self.tokens.ids[part, : int(lengths.max())]
        fields = (self.groups, self.epochs, self.indices)
        return Pairs(self.images[part], Tokens(ids, lengths), *(x[part] for x in fields), self.captions[part])


def small_clip(seed: int = 4, embed_dim: int = 6) -> CLIP:
    torch.manual_seed(seed)
    image = VisionTransformer(image_size=8, patch_size=4, width=8, layers=1, heads=2, output_dim=embed_dim)
    text = TextTransformer(vocab_size=12, context_length=8, width=8, layers=1, heads=2, output_dim=embed_dim)
    return CLIP(image, text, embed_dim=embed_dim)


def some_pairs(rows: int = 8) -> Pairs:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(256, (rows, 3, 8, 8), dtype=torch.uint8, generator=generator)
    letters = torch.randint(5, (rows, 4), generator=generator).tolist()
    captions = ["".join(chr(ord("a") + x) for x in row[: 1 + i % 4]) for i, row in enumerate(letters)]
    from .test_bag_of_words import TOKENS

    index = torch.arange(rows)
    return Pairs(
        images, TOKENS(captions), index // 2 * (index < 4) + index * (index >= 4), index * 0 + 2, index, captions
    )
