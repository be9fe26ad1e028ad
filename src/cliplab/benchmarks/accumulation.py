"""benchmark=accumulation: peak memory and time of a training step by trainer.contrastive_accumulation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.contenders import Contender, Inputs, ours
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.memory import ByMemory, by_choice
from cliplab.benchmarks.setting import Setting
from cliplab.data.fields import takes_fields
from cliplab.models.chunks import encode_in_chunks, split_tokens
from cliplab.models.clip import CLIP
from cliplab.models.tokens import Tokens
from cliplab.settings.build import build


@dataclass(frozen=True)
class Choices(ByMemory):
    """``choices`` are values of ``trainer.contrastive_accumulation``; the first is what the others are compared with."""

    choices: Sequence[int] = (1, 2, 4, 8)


def in_chunks(contender: Contender, model: CLIP, texts: Sequence[Tokens], setting: Setting) -> Contender:
    """The contender, with towers that encode a batch in as many chunks as ``texts`` has."""

    def load() -> Inputs:
        return contender.load()._replace(texts=[part.to(setting.device) for part in texts])

    def image(images: Tensor) -> Tensor:
        embeds = encode_in_chunks(model, images, texts, {"image_embeds"}).image_embeds
        assert embeds is not None
        return embeds

    def text(parts: Sequence[Tokens]) -> Tensor:
        embeds = encode_in_chunks(model, torch.empty(0), parts, {"text_embeds"}).text_embeds
        assert embeds is not None
        return embeds

    return contender._replace(load=load, image=image, text=text)


@takes_fields(Choices)
def measure(work: Choices) -> Measured:
    """A step by each choice."""
    prepared = work.prepared(pixels=not work.traced)
    texts = {chunks: split_tokens(prepared.batch.tokens, chunks) for chunks in work.choices}

    def contender_of(chunks: int, batch: MadeBatch, setting: Setting) -> Contender:
        model: CLIP = build(work.config["model"], "model")
        whole = ours(work.config, batch, setting, model)
        return whole if chunks == 1 else in_chunks(whole, model, texts[chunks], setting)

    return by_choice(work, "contrastive_accumulation", work.choices, contender_of, prepared)
