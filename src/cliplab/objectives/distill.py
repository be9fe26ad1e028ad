"""Learn from a frozen teacher which texts fit which pictures."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cliplab.distributed import gather
from cliplab.models.clip import CLIP, EMBEDS, Encoded
from cliplab.objectives.objective import Corpus, Loss, Objective, Pairs
from cliplab.rules import Count, NonNegative

LOCAL = ("/", "./", "../", "~")  # a name that begins so is no hub id


class Taught(NamedTuple):
    """What a teacher says of a batch: unit embeddings of its own width, and its exponentiated scale."""

    image_embeds: Float[Tensor, "batch teacher_dim"]
    text_embeds: Float[Tensor, "batch teacher_dim"]
    logit_scale: Float[Tensor, ""]


class Teacher(Protocol):
    """Encodes uint8 images ``[batch, 3, size, size]`` and texts, prepared as it was trained to see them."""

    def __call__(self, images: Tensor, texts: Sequence[str]) -> Taught: ...


class Distillation(Objective):
    """The contrastive loss, and ``weight`` times the divergence of the student's similarities from the teacher's.

    Of each picture the teacher's distribution over the texts of the batch, at its own temperature, is the target of the
    student's, and of each text that over the pictures: affinity mimicking (Wu et al. 2023, TinyCLIP, section 3.1). The
    widths of both may differ. With ``block_size`` only the similarities of so many pictures, or texts, are in memory; they
    are computed again in the backward pass. ``teacher`` is anything that ``pretrained=`` reads; ``read`` reads it where a
    model is trained. It is neither trained nor saved. Raises ValueError without a teacher, and for a local path that is not
    there.
    """

    reads = EMBEDS

    def __init__(
        self,
        *,
        teacher: str | None,
        weight: NonNegative,
        contrastive: Objective,
        read: Callable[[str], Teacher],
        block_size: Count | None = None,
    ) -> None:
        super().__init__()
        if not teacher:
            raise ValueError(
                "objective.teacher: name the teacher's weights, as objective.teacher=<what pretrained= reads>"
            )
        if teacher.startswith(LOCAL) and not Path(teacher).expanduser().exists():
            raise ValueError(
                f"objective.teacher: {teacher} is neither a file nor a folder; name weights that are there"
            )
        self.source, self.weight, self.contrastive, self.read = teacher, weight, contrastive, read
        self.block_size = block_size
        self.reads = self.reads | contrastive.reads
        self.teachers: list[Teacher] = []  # in a list: its parameters are not this objective's

    def prepare(self, corpus: Corpus) -> None:
        self.contrastive.prepare(corpus)
        self.teachers = [self.read(self.source)]

    def build_heads(self, model: CLIP) -> None:
        self.contrastive.build_heads(model)

    def least_loss(self, pictures: Sequence[Hashable], captions: Sequence[Hashable], groups: Sequence[int]) -> float:
        """Of the contrastive loss; a divergence may be 0."""
        return self.contrastive.least_loss(pictures, captions, groups)

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        loss, figures = self.contrastive(encoded, batch)
        assert encoded.image_embeds is not None
        assert encoded.text_embeds is not None
        with torch.no_grad():
            taught = self.teachers[0](batch.images, batch.captions)
        with torch.autocast(encoded.logit_scale.device.type, enabled=False):
            own = Taught(encoded.image_embeds, encoded.text_embeds, encoded.logit_scale)
            divergence = _divergence(own, taught, self.block_size) / 2
        told = {"contrastive": loss.detach(), "divergence": divergence.detach()}
        return Loss(loss + self.weight * divergence, {**figures, **told})


def _divergence(own: Taught, teacher: Taught, block_size: int | None) -> Tensor:
    """The mean over local pictures of the divergence from the teacher's distribution over the texts of all ranks, and the
    mean over local texts of that over pictures, added up."""
    total = torch.zeros_like(own.logit_scale)
    for (rows, columns), (teacher_rows, teacher_columns) in zip(_sides(own), _sides(teacher), strict=True):
        size = block_size or len(rows)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            given = (rows[part], columns, teacher_rows[part], teacher_columns)
            if block_size is None:
                found = _summed_divergence(*given)
            else:
                found = checkpoint(_summed_divergence, *given, use_reentrant=False, preserve_rng_state=False)
            total = total + found / len(rows)
    return total


def _sides(of: Taught) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """By image and by text: the local rows ``[B, D]``, times the scale, and the columns of all W ranks ``[W * B, D]``."""
    images, texts = of.image_embeds.float(), of.text_embeds.float()
    return (of.logit_scale * images, gather(texts)), (of.logit_scale * texts, gather(images))


def _summed_divergence(rows: Tensor, columns: Tensor, teacher_rows: Tensor, teacher_columns: Tensor) -> Tensor:
    student, taught = (rows @ columns.T).log_softmax(1), (teacher_rows @ teacher_columns.T).log_softmax(1)
    return F.kl_div(student, taught, reduction="sum", log_target=True)
