"""A contrastive batch that is encoded in chunks: the memory of one chunk, the loss and the gradient of the whole batch."""

from collections.abc import Sequence, Set
from typing import TypeVar

import torch
from torch import Tensor

from cliplab.models.checkpointing import checkpointed
from cliplab.models.clip import CLIP, EMBEDS, Encoded
from cliplab.models.encoders import ImageStates, TextStates
from cliplab.models.tokens import Tokens

OF_IMAGES = frozenset({"image_embeds", "image_states"})
OF_TEXTS = frozenset({"text_embeds", "text_states"})
States = TypeVar("States", ImageStates, TextStates)


def encode_in_chunks(model: CLIP, images: Tensor, texts: Sequence[Tokens], reads: Set[str] = EMBEDS) -> Encoded:
    """``model(images, tokens, reads)``, where each tower sees the batch in as many parts as ``texts`` has (see
    ``split_tokens``), one after the other.

    A part keeps only its inputs and its embeddings, and is computed again in the backward pass, so that one part at a time
    holds activations. Values and gradients, those of the scale and the bias included, are those of the whole batch up to
    rounding. Dropout and patch dropout draw the same numbers again. Batch norm sees each part as a batch of its own: it
    normalises by the part's statistics, and counts each part once in its running statistics. A tower that no gradient
    reaches is not computed again. Source: Gao et al. 2021, "Scaling deep contrastive learning batch size under memory
    limited setup".
    """
    encoded = model(images, texts[0], frozenset())  # the scale and the bias alone
    if wanted := reads & OF_IMAGES:
        pictures = images.tensor_split(len(texts))
        encoded = _joined(
            encoded, [checkpointed(model.image_encoder, model, one, texts[0], wanted) for one in pictures]
        )
    if wanted := reads & OF_TEXTS:
        encoded = _joined(encoded, [checkpointed(model.text_encoder, model, images, one, wanted) for one in texts])
    return encoded


def split_tokens(tokens: Tokens, chunks: int) -> list[Tokens]:
    """The texts in ``chunks`` parts of nearly equal number, each as wide as the whole. Empty parts are left out.

    On a GPU the program waits for the device once where ``places`` have to be cut."""
    ids, lengths = tokens.ids.tensor_split(chunks), tokens.lengths.tensor_split(chunks)
    parts = [Tokens(*pair) for pair in zip(ids, lengths, strict=True) if len(pair[0])]
    if tokens.places is None:
        return parts
    firsts = torch.tensor([0, *(part.ids.numel() for part in parts)], device=tokens.places.device).cumsum(0)
    cuts = torch.searchsorted(tokens.places, firsts).tolist()
    found = [tokens.places[a:b] - first for a, b, first in zip(cuts, cuts[1:], firsts, strict=False)]
    return [part._replace(places=places) for part, places in zip(parts, found, strict=True)]


def _joined(encoded: Encoded, parts: Sequence[Encoded]) -> Encoded:
    """``encoded`` with the embeddings and states of the parts, one after the other."""
    joined = encoded
    if embeds := [part.image_embeds for part in parts if part.image_embeds is not None]:
        joined = joined._replace(image_embeds=torch.cat(embeds))
    if embeds := [part.text_embeds for part in parts if part.text_embeds is not None]:
        joined = joined._replace(text_embeds=torch.cat(embeds))
    if images := [part.image_states for part in parts if part.image_states is not None]:
        joined = joined._replace(image_states=ImageStates(*_columns(images)))
    if texts := [part.text_states for part in parts if part.text_states is not None]:
        joined = joined._replace(text_states=TextStates(*_columns(texts)))
    return joined


def _columns(states: Sequence[States]) -> list[Tensor]:
    return [torch.cat(tensors) for tensors in zip(*states, strict=True)]
