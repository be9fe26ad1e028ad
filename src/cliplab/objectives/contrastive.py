"""Contrastive objectives: functions of the embeddings of the local batch, exact over any number of ranks.

Each rank scores its own rows against the columns of all ranks, gathered with gradient; the mean over ranks, which
data-parallel training takes, is then the loss of the whole batch, and so is its gradient. With ``block_size`` the logits are
computed in blocks of at most so many rows and columns, forward and backward, and texts go round the ranks instead of being
gathered: the same values and gradients, in the memory of a block (``objectives.blocks``).
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cliplab.distributed import gather, rank
from cliplab.models.clip import CLIP, Encoded
from cliplab.models.word_vectors import WordVectors
from cliplab.objectives.blocks import Compared, cross_entropies, sigmoids
from cliplab.objectives.least import least_cross_entropy, least_sigmoid
from cliplab.objectives.objective import Loss, Objective, Pairs
from cliplab.objectives.positives import HiddenPairs, JointPairs, OwnPairs
from cliplab.rules import Count, Positive, Share


def _embeds(encoded: Encoded) -> tuple[Tensor, Tensor]:
    images, texts = encoded.image_embeds, encoded.text_embeds
    assert images is not None
    assert texts is not None
    return images, texts


def _logits(encoded: Encoded) -> tuple[Tensor, Tensor, Tensor]:
    """Logits by image ``[B, W * B]``, by text ``[B, W * B]``, and the column of each local row ``[B]``; W is the ranks."""
    images, texts = _embeds(encoded)
    by_image = encoded.logit_scale * images @ gather(texts).T
    by_text = encoded.logit_scale * texts @ gather(images).T
    columns = torch.arange(len(images), device=images.device) + rank() * len(images)
    return by_image, by_text, columns


def _result(loss: Tensor, encoded: Encoded, image_accuracy: Tensor, text_accuracy: Tensor) -> Loss:
    """The loss, with both accuracies (the share of rows with the right best match) and the scale as figures."""
    figures = {"image_accuracy": image_accuracy, "text_accuracy": text_accuracy, "logit_scale": encoded.logit_scale}
    return Loss(loss, figures)


def _accuracy(logits: Tensor, positives: Tensor) -> Tensor:
    """The share of rows where the highest logit is one of the ``positives``, bool ``[B, W * B]``."""
    return positives.gather(1, logits.argmax(1, keepdim=True)).float().mean()


def _same_group(groups: Tensor) -> Tensor:
    """Bool ``[B, W * B]``: which columns show the same thing as the local row, itself included."""
    return groups.unsqueeze(1) == gather(groups).unsqueeze(0)


def _groups_of(batch: Pairs, objective: str) -> Tensor:
    if batch.groups is None:
        raise ValueError(f"objective={objective} needs groups; set data.train.group_column")
    return batch.groups


def _bias_of(encoded: Encoded) -> Tensor:
    if encoded.logit_bias is None:
        raise ValueError("objective=siglip needs a logit bias; set model.init_logit_bias to -10")
    return encoded.logit_bias


class _Contrastive(Objective):
    """Computes in float32 at any precision of the run. ``block_size`` is None where all logits are computed at once."""

    def __init__(self, *, block_size: Count | None = None) -> None:
        super().__init__()
        if block_size is not None and block_size < 1:
            raise ValueError(f"objective.block_size {block_size} must be 1 or more; null computes all logits at once")
        self.block_size = block_size

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        with torch.autocast(encoded.logit_scale.device.type, enabled=False):
            if self.block_size is None:
                return self.compare(encoded, batch)
            return self.compare_in_blocks(encoded, batch, self.block_size)

    def compare(self, encoded: Encoded, batch: Pairs) -> Loss:
        raise NotImplementedError

    def compare_in_blocks(self, encoded: Encoded, batch: Pairs, size: int) -> Loss:
        """Symmetric InfoNCE over the positives of the objective."""
        found = self.cross_entropies(encoded, batch, size)
        return _result((found.by_image + found.by_text) / 2, encoded, found.image_accuracy, found.text_accuracy)

    def cross_entropies(self, encoded: Encoded, batch: Pairs, size: int) -> Compared:
        images, texts = _embeds(encoded)
        return cross_entropies(encoded.logit_scale * images, texts, self.pairs_of(images, batch), size)

    def pairs_of(self, images: Tensor, batch: Pairs) -> OwnPairs:
        """Which pairs belong together."""
        return OwnPairs(len(images), images.device)


class ClipLoss(_Contrastive):
    """Symmetric InfoNCE (Radford et al. 2021, figure 3): every other sample of the batch is a negative."""

    def least_loss(self, pictures: Sequence[Hashable], captions: Sequence[Hashable], groups: Sequence[int]) -> float:
        return least_cross_entropy(pictures, captions, range(len(captions)))

    def compare(self, encoded: Encoded, batch: Pairs) -> Loss:
        by_image, by_text, columns = _logits(encoded)
        loss = (F.cross_entropy(by_image, columns) + F.cross_entropy(by_text, columns)) / 2
        hit_image = (by_image.argmax(1) == columns).float().mean()
        hit_text = (by_text.argmax(1) == columns).float().mean()
        return _result(loss, encoded, hit_image, hit_text)


class GroupedClipLoss(_Contrastive):
    """InfoNCE in which samples of one group are joint positives, with equal weight (Khosla et al. 2020, eq. 2).

    ``batch.groups`` is int64 ``[batch]``. With all groups distinct it equals ``ClipLoss``.
    """

    def least_loss(self, pictures: Sequence[Hashable], captions: Sequence[Hashable], groups: Sequence[int]) -> float:
        return least_cross_entropy(pictures, captions, groups)

    def compare(self, encoded: Encoded, batch: Pairs) -> Loss:
        groups = _groups_of(batch, "clip_grouped")
        by_image, by_text, _ = _logits(encoded)
        positives = _same_group(groups)
        targets = positives.to(by_image.dtype) / positives.sum(1, keepdim=True)
        loss = (F.cross_entropy(by_image, targets) + F.cross_entropy(by_text, targets)) / 2
        return _result(loss, encoded, _accuracy(by_image, positives), _accuracy(by_text, positives))

    def pairs_of(self, images: Tensor, batch: Pairs) -> OwnPairs:
        return JointPairs(_groups_of(batch, "clip_grouped"))


class MaskedClipLoss(_Contrastive):
    """InfoNCE in which other samples of the same group are left out of the denominator.

    ``batch.groups`` is int64 ``[batch]``. With all groups distinct it equals ``ClipLoss``.
    """

    def compare(self, encoded: Encoded, batch: Pairs) -> Loss:
        groups = _groups_of(batch, "clip_masked")
        by_image, by_text, columns = _logits(encoded)
        own_pair = F.one_hot(columns, by_image.shape[1]).bool()
        hidden = _same_group(groups) & ~own_pair
        by_image, by_text = (x.masked_fill(hidden, float("-inf")) for x in (by_image, by_text))
        loss = (F.cross_entropy(by_image, columns) + F.cross_entropy(by_text, columns)) / 2
        return _result(loss, encoded, _accuracy(by_image, own_pair), _accuracy(by_text, own_pair))

    def pairs_of(self, images: Tensor, batch: Pairs) -> OwnPairs:
        return HiddenPairs(_groups_of(batch, "clip_masked"))


class SigmoidLoss(_Contrastive):
    """Pairwise sigmoid loss with a learned bias (Zhai et al. 2023, algorithm 1); set ``model.init_logit_bias``."""

    def least_loss(self, pictures: Sequence[Hashable], captions: Sequence[Hashable], groups: Sequence[int]) -> float:
        return least_sigmoid(pictures, captions)

    def compare(self, encoded: Encoded, batch: Pairs) -> Loss:
        bias = _bias_of(encoded)
        by_image, by_text, columns = _logits(encoded)
        own_pair = F.one_hot(columns, by_image.shape[1]).bool()
        signs = own_pair.to(by_image.dtype) * 2 - 1
        loss = -F.logsigmoid(signs * (by_image + bias)).sum(1).mean()
        return _result(loss, encoded, _accuracy(by_image, own_pair), _accuracy(by_text, own_pair))

    def compare_in_blocks(self, encoded: Encoded, batch: Pairs, size: int) -> Loss:
        images, texts = _embeds(encoded)
        found = sigmoids(encoded.logit_scale * images, texts, _bias_of(encoded), size)
        return _result(found.by_image, encoded, found.image_accuracy, found.text_accuracy)


class BagOfWordsClipLoss(GroupedClipLoss):
    """InfoNCE over a text tower that adds up word vectors, the middle curve of Radford et al. 2021, figure 2.

    It is ``GroupedClipLoss``, which is ``ClipLoss`` where nothing is grouped. Raises ValueError for another text tower.
    """

    def build_heads(self, model: CLIP) -> None:
        if not isinstance(model.text_encoder, WordVectors):
            raise ValueError(
                f"objective=bag_of_words_contrastive needs a text tower without an order of words, not "
                f"{type(model.text_encoder).__name__}; add model/text_encoder=bag_of_words"
            )


class ConvirtLoss(_Contrastive):
    """InfoNCE with a fixed ``temperature``, in which the loss by image has the weight ``image_weight`` and the loss by text
    the rest (Zhang et al. 2020, eqs. 2 to 4: 0.1 and 0.75). The scale of the model is not trained."""

    def __init__(self, *, image_weight: Share, temperature: Positive, block_size: Count | None = None) -> None:
        super().__init__(block_size=block_size)
        if not 0 <= image_weight <= 1:
            raise ValueError(f"objective.image_weight {image_weight} must lie between 0 and 1; the source takes 0.75")
        if not temperature > 0:
            raise ValueError(f"objective.temperature {temperature} must be above 0; the source takes 0.1")
        self.image_weight, self.temperature = image_weight, temperature

    def least_loss(self, pictures: Sequence[Hashable], captions: Sequence[Hashable], groups: Sequence[int]) -> float:
        return least_cross_entropy(pictures, captions, range(len(captions)))

    def compare(self, encoded: Encoded, batch: Pairs) -> Loss:
        by_image, by_text, columns = _logits(self._at_its_temperature(encoded))
        of_images, of_texts = (F.cross_entropy(logits, columns) for logits in (by_image, by_text))
        hits = [(logits.argmax(1) == columns).float().mean() for logits in (by_image, by_text)]
        return self._weighed(Compared(of_images, of_texts, *hits))

    def compare_in_blocks(self, encoded: Encoded, batch: Pairs, size: int) -> Loss:
        return self._weighed(self.cross_entropies(self._at_its_temperature(encoded), batch, size))

    def _at_its_temperature(self, encoded: Encoded) -> Encoded:
        return encoded._replace(logit_scale=torch.ones_like(encoded.logit_scale) / self.temperature)

    def _weighed(self, found: Compared) -> Loss:
        loss = self.image_weight * found.by_image + (1 - self.image_weight) * found.by_text
        return Loss(loss, {"image_accuracy": found.image_accuracy, "text_accuracy": found.text_accuracy})
