"""benchmark=accumulation: peak memory and time of a training step by trainer.contrastive_accumulation."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.contenders import Contender, ours
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.memory import by_choice
from cliplab.benchmarks.setting import Setting
from cliplab.benchmarks.workload import Workload
from cliplab.data.fields import takes_fields
from cliplab.models.chunks import encode_in_chunks
from cliplab.models.clip import CLIP
from cliplab.models.tokens import Tokens
from cliplab.settings.build import build


@dataclass(frozen=True)
class Choices(Workload):
    """``choices`` are values of ``trainer.contrastive_accumulation``; the first is what the others are compared with."""

    choices: Sequence[int] = (1, 2, 4, 8)


def in_chunks(contender: Contender, model: CLIP, batch: MadeBatch, chunks: int) -> Contender:
    """The contender, with towers that encode a batch in chunks."""

    def image(images: Tensor) -> Tensor:
        embeds = encode_in_chunks(model, images, batch.tokens, {"image_embeds"}, chunks=chunks).image_embeds
        assert embeds is not None
        return embeds

    def text(tokens: Tokens) -> Tensor:
        embeds = encode_in_chunks(model, batch.images, tokens, {"text_embeds"}, chunks=chunks).text_embeds
        assert embeds is not None
        return embeds

    return contender._replace(image=image, text=text)


@takes_fields(Choices)
def measure(work: Choices) -> Measured:
    """A step by each choice, all with the same weights."""
    model: CLIP = build(work.config["model"], "model")

    def contender_of(chunks: Any, batch: MadeBatch, setting: Setting) -> Contender:
        one = copy.deepcopy(model)
        whole = ours(work.config, batch, setting, one)
        return whole if chunks == 1 else in_chunks(whole, one, batch, chunks)

    return by_choice(work, "contrastive_accumulation", work.choices, contender_of)
