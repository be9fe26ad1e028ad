"""Contrastive losses: functions of the embeddings of the local batch, exact over any number of ranks.

Each rank scores its own rows against the columns of all ranks, gathered with gradient; the mean over ranks, which
data-parallel training takes, is then the loss of the whole batch, and so is its gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.distributed import gather, rank
from cliplab.models.clip import CLIPOutput


class LossResult(NamedTuple):
    """The loss and the shares of the batch that find their own partner: text for an image, image for a text."""

    loss: Tensor
    image_accuracy: Tensor
    text_accuracy: Tensor


def _logits(output: CLIPOutput) -> tuple[Tensor, Tensor, Tensor]:
    """Logits by image ``[B, W * B]``, by text ``[B, W * B]``, and the column of each local row ``[B]``."""
    images, texts = output.image_embeds, output.text_embeds
    by_image = output.logit_scale * images @ gather(texts).T
    by_text = output.logit_scale * texts @ gather(images).T
    columns = torch.arange(len(images), device=images.device) + rank() * len(images)
    return by_image, by_text, columns


def _accuracy(logits: Tensor, positives: Tensor) -> Tensor:
    return positives.gather(1, logits.argmax(1, keepdim=True)).float().mean()


def _same_group(groups: Tensor, columns: Tensor) -> Tensor:
    """Bool ``[B, W * B]``: which columns show the same thing as the local row, itself included."""
    return groups.unsqueeze(1) == gather(groups).unsqueeze(0)


class ClipLoss(nn.Module):
    """Symmetric InfoNCE (Radford et al. 2021, figure 3): every other sample of the batch is a negative."""

    def forward(self, output: CLIPOutput, groups: Tensor | None = None) -> LossResult:
        by_image, by_text, columns = _logits(output)
        loss = (F.cross_entropy(by_image, columns) + F.cross_entropy(by_text, columns)) / 2
        hit_image = (by_image.argmax(1) == columns).float().mean()
        return LossResult(loss, hit_image, (by_text.argmax(1) == columns).float().mean())


class GroupedClipLoss(nn.Module):
    """InfoNCE in which samples of one group are joint positives, with equal weight (Khosla et al. 2020, eq. 2).

    ``groups`` is int64 ``[batch]``. With all groups distinct it equals ``ClipLoss``.
    """

    def forward(self, output: CLIPOutput, groups: Tensor | None = None) -> LossResult:
        if groups is None:
            raise ValueError("objective=clip_grouped needs groups; set data.train.group_column")
        by_image, by_text, columns = _logits(output)
        positives = _same_group(groups, columns)
        targets = positives / positives.sum(1, keepdim=True)
        loss = (F.cross_entropy(by_image, targets) + F.cross_entropy(by_text, targets)) / 2
        return LossResult(loss, _accuracy(by_image, positives), _accuracy(by_text, positives))


class MaskedClipLoss(nn.Module):
    """InfoNCE in which the other samples of one's own group are left out of the denominator.

    ``groups`` is int64 ``[batch]``. With all groups distinct it equals ``ClipLoss``.
    """

    def forward(self, output: CLIPOutput, groups: Tensor | None = None) -> LossResult:
        if groups is None:
            raise ValueError("objective=clip_masked needs groups; set data.train.group_column")
        by_image, by_text, columns = _logits(output)
        own = F.one_hot(columns, by_image.shape[1]).bool()
        hidden = _same_group(groups, columns) & ~own
        by_image, by_text = (x.masked_fill(hidden, float("-inf")) for x in (by_image, by_text))
        loss = (F.cross_entropy(by_image, columns) + F.cross_entropy(by_text, columns)) / 2
        return LossResult(loss, _accuracy(by_image, own), _accuracy(by_text, own))


class SigmoidLoss(nn.Module):
    """Pairwise sigmoid loss with a learned bias (Zhai et al. 2023, algorithm 1); set ``model.init_logit_bias``."""

    def forward(self, output: CLIPOutput, groups: Tensor | None = None) -> LossResult:
        if output.logit_bias is None:
            raise ValueError("objective=siglip needs a logit bias; set model.init_logit_bias to -10")
        by_image, by_text, columns = _logits(output)
        own = F.one_hot(columns, by_image.shape[1]).bool()
        signs = own.to(by_image.dtype) * 2 - 1
        loss = -F.logsigmoid(signs * (by_image + output.logit_bias)).sum(1).mean()
        return LossResult(loss, _accuracy(by_image, own), _accuracy(by_text, own))
