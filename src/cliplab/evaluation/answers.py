"""How a model compares pictures with the prompts of a classification set: by cosine, or by an objective's score."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.prompts import Prompts, ensemble


class Answer(NamedTuple):
    """Logits of a batch of pictures ``[batch, classes]``, with all templates together and with each one alone."""

    logits: Tensor
    by_template: list[Tensor]


def answers_of(model: ZeroShotModel, prompts: Prompts, *, alone: bool) -> Callable[[Tensor], Answer]:
    """What the model says to pictures. With ``alone`` it also says it for each template by itself."""
    if model.score is not None:
        return _by_score(model, prompts, alone)
    return _by_cosine(model, prompts, alone)


def _by_cosine(model: ZeroShotModel, prompts: Prompts, alone: bool) -> Callable[[Tensor], Answer]:
    by_template = prompts.template_weights(model.encoders, model.device)
    weights = ensemble(by_template)
    each = by_template.unbind(1) if alone else ()

    def answer(images: Tensor) -> Answer:
        embeds = model.encoders.encode_image(images)
        return Answer(prompts.logits(embeds, weights), [prompts.logits(embeds, one) for one in each])

    return answer


def _by_score(model: ZeroShotModel, prompts: Prompts, alone: bool) -> Callable[[Tensor], Answer]:
    """A class gets the mean score of its prompts. Each different prompt is scored once for a batch of pictures."""
    tokens, rows = prompts.tokens.to(model.device), prompts.rows.to(model.device)
    classes = prompts.classes.to(model.device)

    def answer(images: Tensor) -> Answer:
        assert model.score is not None
        scores = model.score(images, tokens).float()[:, rows]  # [B, names, templates]
        each = scores.unbind(2) if alone else ()
        return Answer(scores.mean(2)[:, classes], [one[:, classes] for one in each])

    return torch.no_grad()(answer)
