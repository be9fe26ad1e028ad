"""Learn from a frozen teacher which texts fit which pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cliplab.distributed import gather
from cliplab.models.clip import CLIP, EMBEDS, Encoded
from cliplab.objectives.objective import Corpus, Loss, Objective, Pairs
from cliplab.rules import NonNegative

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
    widths of both may differ. ``teacher`` is anything that ``pretrained=`` reads; ``read`` reads it where a model is
    trained. It is neither trained nor saved. Raises ValueError without a teacher, and for a local path that is not there.
    """

    reads = EMBEDS

    def __init__(
        self, *, teacher: str | None, weight: NonNegative, contrastive: Objective, read: Callable[[str], Teacher]
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
        self.reads = self.reads | contrastive.reads
        self.teachers: list[Teacher] = []  # in a list: its parameters are not this objective's

    def prepare(self, corpus: Corpus) -> None:
        self.contrastive.prepare(corpus)
        self.teachers = [self.read(self.source)]

    def build_heads(self, model: CLIP) -> None:
        self.contrastive.build_heads(model)

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        loss, figures = self.contrastive(encoded, batch)
        assert encoded.image_embeds is not None
        assert encoded.text_embeds is not None
        with torch.no_grad():
            taught = self.teachers[0](batch.images, batch.captions)
        with torch.autocast(encoded.logit_scale.device.type, enabled=False):
            own = Taught(encoded.image_embeds, encoded.text_embeds, encoded.logit_scale)
            divergence = sum(
                F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)
                for student, teacher in zip(_logits(own), _logits(taught), strict=True)
            )
        divergence = torch.as_tensor(divergence) / 2
        told = {"contrastive": loss.detach(), "divergence": divergence.detach()}
        return Loss(loss + self.weight * divergence, {**figures, **told})


def _logits(of: Taught) -> tuple[Tensor, Tensor]:
    """By image and by text, ``[B, W * B]``: local rows against the columns of all W ranks."""
    images, texts = of.image_embeds.float(), of.text_embeds.float()
    return of.logit_scale * images @ gather(texts).T, of.logit_scale * texts @ gather(images).T
